"""Tools for authors of mappings, in a checkout of the repository: the first version of a vendor's package."""
