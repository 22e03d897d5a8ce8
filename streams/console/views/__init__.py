"""The console's pages, one module per subject. Each has `routes`, and reads what it shows from `Console`."""
