"""SQL tables of the canonical resources: the views that define them, and the stores that hold them."""
