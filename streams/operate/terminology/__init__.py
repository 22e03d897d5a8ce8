"""The words and paths of events that tables and mappings do not know yet, and drafts of rows for them."""
