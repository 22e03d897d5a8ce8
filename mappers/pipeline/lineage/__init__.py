"""Lineage: which parts of an event each leaf of its resources came from.

It is found by experiment, and so it is true of the current code. One leaf of the body at a time is replaced by
another value, or left out, while the event key stays the same. The event is mapped again with the same state, and the
resources are compared. Time of receipt, tenant, event key, configuration and state are varied in the same way. A leaf
that nothing changes comes from the mapping's own rule.
"""

from fhirline.mappers.pipeline.lineage.trial import Lineage, lineage
from fhirline.mappers.pipeline.lineage.unused import unused

__all__ = ["Lineage", "lineage", "unused"]
