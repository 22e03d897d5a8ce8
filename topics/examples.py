"""A synthetic event and the Patient that its mapping makes, for the AsyncAPI document. A test maps the event."""

from collections.abc import Mapping
from typing import Any

Example = Mapping[str, Any]
"""AsyncAPI's Message Example Object."""

_EVENT_KEY = "164a070b88734ef6e47769e2ea79afd1a0fa44eadbb92c331f65d70106f7ceaa"
_OBSERVED = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue"
_BASE = "https://fhirline.example.org"

RAW_EVENT: Example = {
    "name": "altibbi",
    "summary": "a consultation's status, as Altibbi sends it",
    "headers": {"received-at": "2023-06-15T09:38:51.020Z", "tenant": "acme", "event-key": _EVENT_KEY},
    "payload": {
        "type": "status_update",
        "consultation_id": 72,
        "user_id": 1,
        "new_status": "checking_medical_profile",
        "datetime": "2023-06-15T09:38:50.848860Z",
    },
}

PATIENT: Example = {
    "name": "altibbi",
    "summary": "the patient of the RawEvent example",
    "headers": {
        "vendor": "altibbi",
        "tenant": "acme",
        "event-type": "status_update",
        "raw": "raw.altibbi/0/0",
        "mapping-version": "map-3",
        "event-key": _EVENT_KEY,
        "occurred-at": "2023-06-15T09:38:50.848860Z",
    },
    "payload": {
        "resourceType": "Patient",
        "id": "ed51dc6d-21a2-5226-8e76-f70c1eefdde8",
        "meta": {
            "source": f"{_BASE}/source/altibbi/acme",
            "security": [
                {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "N"},
                {"system": _OBSERVED, "code": "MAPPED", "display": "mapped"},
            ],
            "tag": [{"system": f"{_BASE}/CodeSystem/vendor", "code": "altibbi"}],
        },
        "identifier": [{"system": f"{_BASE}/sid/altibbi/acme/user", "value": "1"}],
    },
}
