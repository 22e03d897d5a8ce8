"""The kind of what is searched for, told by its form."""

import re
from typing import Literal

from fhirline.mappers.registry import VENDORS
from fhirline.topics.declared import RESOURCE_TYPES

Kind = Literal["event", "raw record", "resource"]


def kind_of(what: str) -> Kind | None:
    """Tell an event key, a raw record and a resource apart; None for anything else.

    >>> kind_of("raw.altibbi/3/17"), kind_of("Encounter/2b255f9d-8fb0-5341-a3c7-c91e6b6af3cf"), kind_of("Smith")
    ('raw record', 'resource', None)
    """
    if re.fullmatch(r"[0-9a-f]{64}", what):
        return "event"
    if re.fullmatch(rf"raw\.({'|'.join(VENDORS)})(\.enriched)?/\d{{1,9}}/\d{{1,18}}", what):
        return "raw record"
    if re.fullmatch(r"[A-Za-z]+/[A-Za-z0-9.-]{1,64}", what) and what.partition("/")[0] in RESOURCE_TYPES:
        return "resource"
    return None
