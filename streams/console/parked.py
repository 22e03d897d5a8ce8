"""List the patients whose Bundles wait for the FHIR server: since when, what it said, and what is to be done."""

from collections.abc import Collection, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict

from fhirline.config.tables import Table, read_table
from fhirline.streams.console.delivery_index import DeliveryIndex, WaitingBundle
from fhirline.streams.deliver.sending import CONFLICT, REFUSED

UNKNOWN_REFERENCE = "HAPI-1094"


class Advice(BaseModel):
    """Advice for the operator about a refusal. ``likely``: what it most likely means."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    likely: str
    do: str


class RefusalCodes(Table):
    """``delivery-codes.yaml``: every kind of refusal."""

    codes: dict[str, Advice]


class ServerAnswer(NamedTuple):
    """The last answer of the FHIR server, by its dead letter: codes and places, none of its texts.

    ``erases``: an erasure is among what waits.
    """

    code: str
    status: int | None
    issues: Sequence[str]
    places: Sequence[str]
    server_codes: Sequence[str]
    referring: Sequence[str]
    erases: bool

    @property
    def advice(self) -> Advice | None:
        name = self.code
        if name == REFUSED and self.status == 405 and self.erases:
            name = "refused-deletion"
        elif name == REFUSED and UNKNOWN_REFERENCE in self.server_codes:
            name = "refused-reference"
        elif name == CONFLICT and self.referring:
            name = "conflict-referring"
        return advices().get(name)


class WaitingPatient(NamedTuple):
    """A patient, or another resource, for whom something waits in a partition.

    ``since``: UNIX milliseconds. ``bundles``: how many wait. ``refused``: how many of them were themselves refused.
    ``erases``: an erasure is among them. ``ordered``: it was ordered that they are sent.
    """

    partition: int
    patient: str
    since: int
    bundles: int
    refused: int
    erases: bool
    ordered: bool
    codes: tuple[str, ...]
    items: tuple[WaitingBundle, ...]


@cache
def advices() -> dict[str, Advice]:
    """Return what to do about each kind of refusal."""
    return read_table("delivery-codes", RefusalCodes, Path(__file__).with_name("delivery-codes.yaml")).codes


def waiting_patients(index: DeliveryIndex, codes: Collection[str] = ()) -> list[WaitingPatient]:
    """List the patients with waiting Bundles, the longest first. ``codes``: those with one for such a reason."""
    collected: dict[tuple[int, str], list[WaitingBundle]] = {}
    for item in index.parked():
        for patient in item.waiting.patients:
            collected.setdefault((item.partition, patient), []).append(item)
    ordered = index.ordered()
    found = [
        WaitingPatient(
            partition,
            patient,
            min(item.since for item in items),
            len(items),
            sum(item.waiting.refused for item in items),
            any(item.waiting.erases for item in items),
            (partition, patient) in ordered,
            tuple(dict.fromkeys(item.waiting.code for item in items)),
            tuple(items),
        )
        for (partition, patient), items in collected.items()
    ]
    wanted = (found_one for found_one in found if not codes or not set(codes).isdisjoint(found_one.codes))
    return sorted(wanted, key=lambda one: (one.since, one.partition, one.patient))


def refusal_of(index: DeliveryIndex, patient: WaitingPatient) -> ServerAnswer:
    """Return what the server said last about a patient's Bundles. Where the letter is gone, its code alone."""
    letters = [letter for item in patient.items if (letter := index.refusal(item)) is not None]
    if not letters:
        return ServerAnswer(patient.codes[0], None, (), (), (), (), patient.erases)
    _, code, value = max(letters, key=lambda letter: letter[0])
    held: dict[str, Any] = orjson.loads(value)
    issues = held.get("issues") or ()
    return ServerAnswer(
        code,
        held.get("status"),
        _distinct(issue.get("code", "") for issue in issues),
        _distinct(place for issue in issues for place in issue.get("places", ())),
        held.get("serverCodes") or (),
        held.get("referring") or (),
        patient.erases,
    )


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in texts if text))
