"""Views: SQL on FHIR's ViewDefinitions, compiled to functions from a resource to rows."""

from fhirline.streams.tables.views.loading import load_views
from fhirline.streams.tables.views.view import Column, Index, Reference, View, ViewFailed

__all__ = ["Column", "Index", "Reference", "View", "ViewFailed", "load_views"]
