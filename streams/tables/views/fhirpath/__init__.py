"""The part of FHIRPath that ViewDefinitions need, compiled to Python closures (docs/views.md lists it)."""
