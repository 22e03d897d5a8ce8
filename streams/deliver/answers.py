"""Reading a FHIR server's answer: is an entry accepted, refused, or to be sent again? Pure (fhir-delivery.md §3).

A status alone does not decide: a HAPI server answers a missing reference with 400, another one with 404 or 409; a
transaction that ran as a batch hides a 429 inside a 200. So the text of an answer is searched for the references that
were sent. It is used for that alone: ``diagnostics`` may quote a patient's data, so no text of an answer is ever
logged or stored.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import orjson

from fhirline.streams.deliver.entries import DELETED, Entry

MOST_ISSUES = 20
MOST_TEXT = 262_144
NO_ACCESS = (401, 403)
"""Statuses that the client of the server acts on (`server`)."""

NO_RESULTS, NO_STATUS = "no-result-for-each-entry", "entry-without-status"
"""Codes for an answer of 2xx that tells nothing of an entry."""

_STATUS = re.compile(r"[1-5][0-9]{2}(?![0-9])")
_LOCATION = re.compile(r"(?:.*/)?([A-Z][A-Za-z]{1,63}/[A-Za-z0-9.-]{1,64})(?:/_history/[^/]*)?", re.DOTALL)
_CODE = re.compile(r"[a-z]{1,40}(-[a-z]{1,40})*")
_PLACE = re.compile(r"/?[A-Za-z]\w{0,63}(\[\d{1,6}\]|[./](f:)?[A-Za-z]\w{0,63}|\.ofType\([A-Za-z]{1,64}\)){0,40}")
"""A FHIRPath or XPath of element names and indexes. Any other may quote a value, and is left out."""
_SERVER_CODE = re.compile(r"\bHAPI-\d{4}\b")
_REFERRING = re.compile(
    r"\b[A-Z][A-Za-z]{2,40}/[A-Za-z0-9.-]{1,64}(?= in path ([A-Z]\w{0,63}(?:\.\w{1,64}\b(?!\()){1,10}))"
)
"""Pattern by which HAPI names the resource that refers to one that is to be deleted, and the element.

It has several paths to one element, some with a function behind it (``Flag.subject.where(…)``), and names any.
"""


class Kind(Enum):
    """The kinds of answers, by what is to be done about an entry."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """The server refuses the content, or does not have a resource that it refers to."""
    CONFLICT = "conflict"
    BUSY = "busy"
    """The server asks for a pause."""
    FAILED = "failed"
    """Nobody knows whether the entry was stored."""
    UNUSABLE = "unusable"
    """The address, or what the server does there, is wrong: no Bundle could be accepted."""
    ELSEWHERE = "elsewhere"
    """The server accepted the entry, and says that it is at another type or id than it was sent to."""


_KINDS = {
    400: Kind.REFUSED,
    404: Kind.REFUSED,
    405: Kind.UNUSABLE,
    406: Kind.UNUSABLE,
    408: Kind.FAILED,
    409: Kind.CONFLICT,
    410: Kind.REFUSED,
    412: Kind.CONFLICT,
    413: Kind.REFUSED,
    415: Kind.UNUSABLE,
    422: Kind.REFUSED,
    423: Kind.CONFLICT,
    425: Kind.FAILED,
    429: Kind.BUSY,
    503: Kind.BUSY,
}


@dataclass(frozen=True, slots=True)
class Issue:
    """One issue of an OperationOutcome, without its text. ``places``: paths of elements."""

    severity: str
    code: str
    places: tuple[str, ...] = ()

    def shown(self) -> Mapping[str, Any]:
        return {"severity": self.severity, "code": self.code, "places": list(self.places)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The server's answer about an entry, or about a whole transaction. ``text`` is for `names` only."""

    kind: Kind
    status: int
    issues: tuple[Issue, ...] = ()
    server_codes: tuple[str, ...] = ()
    referring: tuple[str, ...] = ()
    """References to a resource that is to be deleted, as ``Type/id at element``."""
    retry_after: float | None = None
    text: str = ""
    explained: bool = False
    """True where the answer is an OperationOutcome. A proxy's page does not come from the server."""

    def names(self, reference: str) -> bool:
        """Tell whether the answer names a resource."""
        return reference in self.text or reference.partition("/")[2] in self.text


def verdict(status: int, body: Any, retry_after: float | None = None) -> Verdict:
    """Read one answer: a status, and its body as parsed JSON (None where it is none)."""
    kind = _KINDS.get(status, Kind.ACCEPTED if 200 <= status < 300 else Kind.FAILED if status >= 500 else Kind.UNUSABLE)
    issues = _issues(body)
    text = "" if kind is Kind.ACCEPTED or body is None else _text(body)
    return Verdict(
        kind,
        status,
        tuple(issue for issue in map(_issue, issues[:MOST_ISSUES]) if issue.severity in ("error", "fatal")),
        tuple(sorted(set(_SERVER_CODE.findall(text)))),
        tuple(f"{found[0]} at {found[1]}" for found in _REFERRING.finditer(text)),
        retry_after,
        text,
        bool(issues),
    )


def verdicts(status: int, body: Any, retry_after: float | None, sent: Sequence[Entry]) -> list[Verdict]:
    """Read the answer to a transaction: one verdict for each entry that was sent, in their order.

    An answer of 2xx without a result for each entry tells nothing of them: they count as failed, and are sent again.
    """
    whole = _without_deletions(verdict(status, body, retry_after), sent)
    if whole.kind is not Kind.ACCEPTED:
        return [whole] * len(sent)
    results = body.get("entry") if isinstance(body, dict) else None
    if not isinstance(results, list) or len(results) != len(sent):
        return [Verdict(Kind.FAILED, status, server_codes=(NO_RESULTS,))] * len(sent)
    return [_of_entry(result, entry, retry_after) for result, entry in zip(results, sent, strict=True)]


def without_access(status: int, body: Any) -> int | None:
    """Return 401 or 403 where the server refuses our access to what was sent, or to one entry of it; else None."""
    if status in NO_ACCESS:
        return status
    results = body.get("entry") if 200 <= status < 300 and isinstance(body, dict) else None
    entries = {_status(result) for result in results} if isinstance(results, list) else set()
    return next((refused for refused in NO_ACCESS if refused in entries), None)


def _status(result: Any) -> int | None:
    """Read the status of an entry of an answer; None where it has none."""
    response = result.get("response") if isinstance(result, dict) else None
    status = response.get("status") if isinstance(response, dict) else None
    return int(status[:3]) if isinstance(status, str) and _STATUS.match(status) else None


def _of_entry(result: Any, entry: Entry, retry_after: float | None) -> Verdict:
    status = _status(result)
    if status is None:
        return Verdict(Kind.FAILED, 0, server_codes=(NO_STATUS,))
    if entry.digest == DELETED and status in (404, 410):
        return Verdict(Kind.ACCEPTED, status)
    outcome = result["response"].get("outcome")
    found = verdict(status, outcome, retry_after)
    if found.kind is Kind.ACCEPTED and entry.digest != DELETED and _elsewhere(result["response"], entry):
        return replace(found, kind=Kind.ELSEWHERE)
    # The address is right, as the server has read the transaction: it takes this entry neither here nor elsewhere.
    return replace(found, kind=Kind.REFUSED) if found.kind is Kind.UNUSABLE else found


def _elsewhere(response: dict[str, Any], entry: Entry) -> bool:
    """Tell whether the location of a stored resource, absolute or relative, is another type or id than was sent."""
    location = response.get("location")
    found = _LOCATION.fullmatch(location) if isinstance(location, str) and len(location) < 2_000 else None
    return found is not None and found[1] != entry.key


def _without_deletions(found: Verdict, sent: Sequence[Entry]) -> Verdict:
    """Read 405 to a request that deletes as a refusal of its content: a server may take everything but deletions."""
    deletes = any(entry.digest == DELETED for entry in sent)
    return replace(found, kind=Kind.REFUSED) if found.status == 405 and found.explained and deletes else found


def _issues(body: Any) -> list[Any]:
    if not isinstance(body, dict) or body.get("resourceType") != "OperationOutcome":
        return []
    found = body.get("issue")
    return found if isinstance(found, list) else []


def _issue(issue: Any) -> Issue:
    found = issue if isinstance(issue, dict) else {}
    named = [*_texts(found.get("expression")), *_texts(found.get("location"))]
    places = dict.fromkeys(place for place in named if len(place) <= 500 and _PLACE.fullmatch(place))
    return Issue(_word(found.get("severity")), _word(found.get("code")), tuple(places)[:MOST_ISSUES])


def _text(body: Any) -> str:
    """Write an answer for searches in it; empty where it is nested more deeply than can be written."""
    try:
        return orjson.dumps(body)[:MOST_TEXT].decode("utf-8", "replace")
    except orjson.JSONEncodeError:
        return ""


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _word(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= 80 and _CODE.fullmatch(value) else "unknown"
