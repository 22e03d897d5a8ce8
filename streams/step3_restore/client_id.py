"""The client id of a member of a consumer group. It shows which erasure key the process has, without revealing it.

`fhirline forget` reads it from the group's description, which Kafka gives to whoever may describe the group: a process
that has no key, or another one, cannot go on once a patient is erased.
"""

import re
from typing import Literal

from fhirline.streams.step3_restore.erasure_list import Hashing

Process = Literal["worker", "enrich", "deliver"]

NO_KEY = "none"
_FORM = re.compile(rf"fhirline-(worker|enrich|deliver)\.erasure-key-({NO_KEY}|[0-9a-f]{{8}})")


def client_id(process: Process, hashing: Hashing | None) -> str:
    """Return the client id of a process that has this key, or none.

    >>> client_id("worker", None)
    'fhirline-worker.erasure-key-none'
    """
    return f"fhirline-{process}.erasure-key-{hashing.mark if hashing else NO_KEY}"


def key_mark(client_id: str) -> str | None:
    """Return the mark of the process's key, or `NO_KEY`. None for the client id of another program or release."""
    found = _FORM.fullmatch(client_id)
    return found[2] if found else None
