"""Events of an invented vendor, from which `fhirline vendor new` makes a mapping."""

from typing import Any

VISIT: dict[str, Any] = {
    "event": "visit.completed",
    "sent_at": "2031-05-02T10:31:07Z",
    "patient": {"id": "P-77", "name": "Ann Example"},
    "visit-id": 1001,
    "class": "virtual",
    "room": {"door": "https://meet.example/r?x=1", "access_token": "not-to-be-shown"},
    "doctor": {"id": "D-5", "name": "Dr. Ada Example"},
    "notes": None,
}
LABS: list[dict[str, Any]] = [
    {
        "event": "lab.result",
        "sent_at": "2024-05-02T10:31:07.5+02:00",
        "patient": {"id": 77},
        "tests": [{"code": "HB", "value": 13.2, "unit": "g/dL"}],
    },
    {
        "event": "lab.result",
        "sent_at": "2024-05-03T10:31:07Z",
        "patient": {"id": "P-78"},
        "tests": [{"code": "CRP", "value": "<5"}],
    },
]
PING = {"event": "ping", "sent_at": "2024-05-02T10:31:07Z"}
