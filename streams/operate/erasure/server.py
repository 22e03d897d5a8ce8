"""An erased patient's resources on a FHIR server, as ``fhirline deliver`` has noted them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from fhirline.config.settings import Settings
from fhirline.streams.deliver.entries import DELETED
from fhirline.streams.deliver.purge_outcomes import KEPT, NO_WAY, OFF, PURGED, REFUSED, SUBMITTED, outcome_of
from fhirline.streams.deliver.state import RESUME, WAITING, decode_sent
from fhirline.streams.kafka.reader import Scanner
from fhirline.topics.declared import DELIVERED

NOT_DELETED = "not-deleted"
NOT_PURGED = "not-purged"
"""Deleted, and nobody knows of its history: it was deleted by an older release, or is being purged now."""

WHY = {
    NOT_PURGED: "their purge is not recorded yet",
    KEPT: "the server accepted the purge and still shows their history",
    OFF: "FHIRLINE_FHIR_PURGE is false",
    NO_WAY: "the profile of this server knows no purge",
    REFUSED: "the server refused the purge",
}
"""Outcome of a purge → why the server may still have earlier versions."""


def at_server(settings: Settings, keys: Iterable[str]) -> Counter[str]:
    """Count what became of resources at the server, without those that were never sent. Raises KafkaAccessError."""
    wanted = set(keys)
    found: dict[str, str] = {}
    with Scanner(settings) as scanner:
        for message in scanner.read(dict.fromkeys(scanner.topic_partitions([DELIVERED]))):
            key, value = (message.key() or b"").decode("utf-8", "replace"), message.value()
            if key not in wanted or key.startswith((WAITING, RESUME)):
                continue
            if value is None:
                found.pop(key, None)
                continue
            sent = decode_sent(value)
            found[key] = (sent.history or NOT_PURGED) if sent.digest == DELETED else NOT_DELETED
    return Counter(found.values())


def lines(counts: Mapping[str, int], asked: bool = True) -> Iterator[str]:
    """Write what the server has as lines of text. ``asked``: whether the topics named any resource of the patient."""
    if not asked:
        yield "FHIR server       not known: the topics name no resource of this patient (any more); see earlier reports"
        return
    if not counts:
        yield "FHIR server       nothing of this patient that fhirline deliver has sent"
        return
    if purged := counts.get(PURGED, 0):
        yield f"FHIR server       {purged} deleted and purged"
    if submitted := counts.get(SUBMITTED, 0):
        yield f"FHIR server       {submitted} deleted; the server purges them by itself: see there that it has"
    if left := counts.get(NOT_DELETED, 0):
        yield f"FHIR server       {left} not deleted yet: run this again when deliver has sent the DELETE Bundle"
    for outcome, number in sorted(counts.items()):
        if why := WHY.get(outcome_of(outcome)):
            status = outcome.removeprefix(f"{REFUSED}-")
            shown = f" with {status}" if status != outcome else ""
            yield f"FHIR server       {number} deleted, and their history may be there: {why}{shown}"
