"""The lakehouse: a Delta table per table, in a folder (docs/design/tables.md §12)."""
