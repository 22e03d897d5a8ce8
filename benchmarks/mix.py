"""The mix of events that every benchmark uses: synthetic, seeded, as the vendors send them.

40 % Altibbi status, 25 % Altibbi recommendation, 20 % MediQuo consultation, 10 % MediQuo report, 5 % Infermedica and
Azodha. Consultations progress as they would: a status follows the one before it, a recommendation follows a
consultation in progress, a report the consultation of a patient. One patient in about four events is new.
"""

import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import orjson

from fhirline.mappers.instants import Instant
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.step1_receive.raw_record import raw_record

Body = dict[str, Any]

SEED = 20260101
TENANT = "acme"
MAX_DEPTH = 64
BEGIN = datetime(2026, 1, 5, 8, tzinfo=UTC)
EVERY = timedelta(milliseconds=40)

SHARES = {
    ("altibbi", "status"): 40,
    ("altibbi", "recommendation"): 25,
    ("mediquo", "consultation"): 20,
    ("mediquo", "report"): 10,
    ("infermedica", "survey"): 2,
    ("azodha", "appointment"): 1,
    ("azodha", "survey"): 1,
    ("azodha", "file"): 1,
}
"""Percent of each (vendor, kind)."""

STATUSES = ("new", "checking_medical_profile", "in_progress", "closed")

DIAGNOSES = (
    ("Acute bronchitis, unspecified", "J20.9"),
    ("Acute upper respiratory infection, unspecified", "J06.9"),
    ("Essential (primary) hypertension", "I10"),
    ("Type 2 diabetes mellitus without complications", "E11.9"),
    ("Gastro-oesophageal reflux disease with oesophagitis", "K21.0"),
    ("Urinary tract infection, site not specified", "N39.0"),
    ("Migraine without aura", "G43.0"),
    ("Atopic dermatitis, unspecified", "L20.9"),
    ("Low back pain", "M54.5"),
    ("Allergic rhinitis, unspecified", "J30.4"),
)
SYMPTOMS = (
    ("Cough", "R05"),
    ("Headache", "R51"),
    ("Fever, unspecified", "R50.9"),
    ("Nausea and vomiting", "R11"),
    ("Dizziness and giddiness", "R42"),
    ("Malaise and fatigue", "R53"),
    ("Rash and other nonspecific skin eruption", "R21"),
    ("Abdominal pain, unspecified", "R10.4"),
)
DRUGS = (
    ("PARACETAMOL", "EXAMPLADOL TAB 500 MG", "500", "tablet", "tablet"),
    ("IBUPROFEN", "SAMPLOFEN F.C. TAB 400 MG", "400", "tablet", "Film-coated tablet"),
    ("AMOXICILLIN", "SYNTHAMOX CAPS 500 MG", "500", "capsule", "Capsule, hard"),
    ("AMBROXOL", "SAMPLOXOL SYRUP 30 MG", "30", "ml", "Syrup"),
    ("OMEPRAZOLE", "EXEMPRAZOLE CAPS 20 MG", "20", "capsule", "Gastro-resistant capsule, hard"),
    ("CETIRIZINE", "EXAMPLERIZ TAB 10 MG", "10", "tablet", "tablet"),
    ("LACTULOSE", "SAMPLOLAC SOLUTION", "670", "tablespoon (10ml)", "Oral solution"),
)
FREQUENCIES = ("Once daily", "Twice daily", "Three times daily", "Four times daily", "Every 8 hours", "At bedtime")
LABS = ("Complete blood count", "FIT Test", "HbA1c", "Lipid profile", "Urine analysis", "TSH")
REFERRALS = ("Pulmonologist", "Dermatologist", "Gastroenterologist/ Stomach & Bowel Specialist", "Cardiologist")
FOLLOW_UPS = ("Do Lab Test", "Do the required radiation", "No Follow-up - Policy Expired")
ALLERGIES = ("Penicilina", "Polen", "Ácaros", "Frutos secos", "Látex")
DISEASES = ("Asma", "Migraña", "Hipertensión", "Diabetes mellitus tipo 2", "Hipotiroidismo")
MEDICATIONS = ("Salbutamol", "Ibuprofeno", "Enalapril", "Metformina", "Levotiroxina")
SUBSTANCES = ("paracetamol", "dextrometorfano", "salbutamol", "amoxicilina", "omeprazol", "cetirizina")
SPECIALITIES = ("Medicina General", "Pediatría", "Dermatología", "Psicología", "Ginecología")
SENTENCES = (
    "Dry cough for four days, no fever.",
    "Sleeps badly since last week and feels tired in the morning.",
    "No shortness of breath when speaking; speaks in full sentences.",
    "Probably a viral upper airway infection without signs of complication.",
    "Rest, fluids; call again if fever or chest pain appears.",
    "Continue the current treatment unchanged and check again in two weeks.",
    "Asks whether the inhaler may be continued during travel.",
    "Technique shown on camera, correct.",
    "Se recomienda control por su médico de cabecera si los síntomas persisten.",
    "يُنصح بشرب السوائل والراحة.",
)


@lru_cache(maxsize=2)
def mix(count: int, seed: int = SEED) -> tuple[ProducerRecord, ...]:
    """``count`` raw records of the mix; the same for the same seed."""
    return tuple(
        raw_record(event.vendor, TENANT, event.body, event.at, None, MAX_DEPTH) for event in events(count, seed)
    )


@dataclass(frozen=True, slots=True)
class Sent:
    """A webhook as it is sent."""

    vendor: str
    kind: str
    body: bytes
    at: Instant


def events(count: int, seed: int = SEED) -> Iterator[Sent]:
    """The mix as webhooks, in the order of sending."""
    world = _World(random.Random(seed), max(1, count // 4))
    makers: dict[tuple[str, str], Callable[[_World], Body]] = {
        ("altibbi", "status"): _status,
        ("altibbi", "recommendation"): _recommendation,
        ("mediquo", "consultation"): _consultation,
        ("mediquo", "report"): _report,
        ("infermedica", "survey"): _survey,
        ("azodha", "appointment"): _appointment,
        ("azodha", "survey"): _assessment,
        ("azodha", "file"): _file,
    }
    assert makers.keys() == SHARES.keys()
    drawn = world.rng.choices(list(SHARES), weights=list(SHARES.values()), k=count)
    for position, (vendor, kind) in enumerate(drawn):
        world.now = BEGIN + EVERY * position
        at = Instant.parse(world.time())
        assert at is not None
        yield Sent(vendor, kind, orjson.dumps(makers[vendor, kind](world)), at)


@dataclass(slots=True)
class _AltibbiConsultation:
    id: int
    user: int
    status: int = -1
    recommended: bool = False


@dataclass(slots=True)
class _World:
    """What has happened so far."""

    rng: random.Random
    patients: int
    now: datetime = BEGIN
    open: list[_AltibbiConsultation] = field(default_factory=list)
    consultations: int = 900_000
    mediquo: list[int] = field(default_factory=list)

    def time(self) -> str:
        return self.now.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def local(self, minutes: int) -> str:
        return (self.now - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%S")

    def patient(self) -> int:
        return self.rng.randrange(self.patients)

    def id(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def some(self, of: tuple[Any, ...], least: int, most: int) -> list[Any]:
        return self.rng.sample(of, self.rng.randint(least, most))

    def prose(self, least: int = 1, most: int = 4) -> str:
        return " ".join(self.some(SENTENCES, least, most))

    def altibbi(self) -> _AltibbiConsultation:
        """A consultation that goes on, or a new one."""
        if len(self.open) > 200 or (self.open and self.rng.random() < 0.6):
            return self.rng.choice(self.open)
        self.consultations += 1
        self.open.append(_AltibbiConsultation(self.consultations, 50_000 + self.patient()))
        return self.open[-1]


def _altibbi(kind: str, consultation: _AltibbiConsultation, world: _World, **own: Any) -> Body:
    return {
        "type": kind,
        "consultation_id": consultation.id,
        "user_id": consultation.user,
        "insurance_id": f"INS-{consultation.user}",
        "policy_number": f"POL-{consultation.user % 97}",
        **own,
        "datetime": world.now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
    }


def _status(world: _World) -> Body:
    consultation = world.altibbi()
    consultation.status += 1
    before = STATUSES[consultation.status - 1] if consultation.status else None
    if consultation.status == len(STATUSES) - 1:
        world.open.remove(consultation)
    return _altibbi(
        "status_update", consultation, world, old_status=before or "new", new_status=STATUSES[consultation.status]
    )


def _recommendation(world: _World) -> Body:
    waiting = [item for item in world.open if item.status >= 2 and not item.recommended]
    consultation = world.rng.choice(waiting) if waiting else world.altibbi()
    consultation.recommended = True
    rng = world.rng
    data = {
        "icd10": {
            "symptom": [{"name": name, "code": code} for name, code in world.some(SYMPTOMS, 0, 3)],
            "diagnosis": [{"name": name, "code": code} for name, code in world.some(DIAGNOSES, 1, 2)],
        },
        "drug": {
            "fdaDrug": [
                {
                    "name": name,
                    "tradeName": trade,
                    "strengthValue": strength,
                    "packageType": "Blister",
                    "packageSize": "20",
                    "dosage": str(rng.randint(1, 2)),
                    "dosageUnit": unit,
                    "routeOfAdministration": "oral",
                    "dosageForm": form,
                    "frequency": rng.choice(FREQUENCIES),
                    "duration": rng.randint(3, 14),
                    "specialInstructions": None,
                    "relationWithFood": rng.choice(("after food", "before food", "")),
                    "howToUse": None,
                }
                for name, trade, strength, unit, form in world.some(DRUGS, 1, 4)
            ]
        },
        "lab": {"lab": [{"name": name} for name in world.some(LABS, 0, 2)]},
        "doctorReferral": {"name": rng.choice(REFERRALS)} if rng.random() < 0.3 else None,
        "followUp": [{"name": name} for name in world.some(FOLLOW_UPS, 0, 2)],
        "postCallAnswer": [
            {"question": question, "answer": world.prose(1, 2)}
            for question in world.some(("doctor_notes", "symptoms", "diagnosis", "fda_drug", "lab_codes"), 1, 4)
        ],
        "dispense": {
            "url": f"https://rx.example.org/p/{world.id()}",
            "pass_code": rng.randint(1000, 9999),
            "qr_code": f"https://rx.example.org/qr/{world.id()}",
        },
    }
    return _altibbi("recommendation_data", consultation, world, data=data)


def _soap(world: _World) -> Body:
    return {part: world.prose() for part in ("subjective", "objective", "assessment", "plan")}


def _mediquo(kind: str, world: _World, payload: Body) -> Body:
    return {"type": kind, "occurred_on": int(world.now.timestamp()), "payload": payload}


def _consultation(world: _World) -> Body:
    rng, patient, professional = world.rng, world.patient(), world.rng.randrange(200)
    world.mediquo.append(patient)

    def history(letter: str, names: tuple[str, ...]) -> list[Body]:
        return [
            {
                "id": f"{letter}-{patient}-{names.index(name)}",
                "name": name,
                "description": rng.choice((None, "since childhood", "since 2010")),
            }
            for name in world.some(names, 0, 3)
        ]

    return _mediquo(
        "patient_consultation_finished",
        world,
        {
            "consultation": {
                "id": world.id(),
                "type": "appointment",
                "start_date": world.local(rng.randint(10, 40)),
                "end_date": world.local(1),
                "speciality": {"id": 1, "name": rng.choice(SPECIALITIES)},
            },
            "reports": [
                {"id": world.id(), "type": "soap", "content": _soap(world)} for _ in range(rng.choice((1, 1, 1, 2)))
            ],
            "patient": {
                "code": f"patient-{patient}",
                "allergies": history("a", ALLERGIES),
                "diseases": history("d", DISEASES),
                "medications": [
                    {**item, "posology": "400 mg, at most twice a day"} for item in history("m", MEDICATIONS)
                ],
            },
            "professional": {
                "id": f"professional-{professional}",
                "name": f"Dra. Ejemplo {professional}",
                "avatar": f"https://images.example.org/{professional}.png",
            },
            "prescriptions": [
                {"id": world.id(), "active_substances": world.some(SUBSTANCES, 1, 3)}
                for _ in range(rng.choice((0, 1, 1)))
            ],
        },
    )


def _report(world: _World) -> Body:
    patient = world.rng.choice(world.mediquo) if world.mediquo else world.patient()
    return _mediquo(
        "patient_report_sent",
        world,
        {"type": "soap", "content": _soap(world), "patient": {"code": f"patient-{patient}"}},
    )


def _survey(world: _World) -> Body:
    return {"event_type": "survey_finished", "content": {"survey_id": world.id()}}


def _appointment(world: _World) -> Body:
    patient, start = world.patient(), world.now + timedelta(days=3)
    return {
        "eventName": "BookAppointment",
        "id": world.rng.randrange(10**6),
        "date": start.date().isoformat(),
        "startTime": start.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "endTime": (start + timedelta(minutes=30)).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "locationType": "TELEHEALTH",
        "status": "BOOKED",
        "patientId": f"patient-{patient}",
        "firstName": "Ana",
        "lastName": f"Sample{patient}",
        "email": f"ana.{patient}@example.org",
        "patientMobileNumber": "+15550100",
        "appointmentType": {"name": "Follow up", "description": "Video follow-up", "durationInMinutes": 30},
        "participants": [{"id": 12, "firstName": "Sam", "lastName": "Example", "role": "physician"}],
        "attributes": {"patientLocation": "CA", "chiefComplaint": "headache"},
        "resources": [],
    }


def _azodha_patient(world: _World) -> Body:
    patient = world.patient()
    return {"id": f"patient-{patient}", "firstName": "Ana", "lastName": f"Sample{patient}", "gender": "FEMALE"}


def _assessment(world: _World) -> Body:
    return {
        "eventName": "SurveyAssessment",
        "eventType": "SURVEY",
        "eventSubType": "ASSESSMENT_COMPLETED",
        "userType": "serviceProvider",
        "data": {
            "patient": _azodha_patient(world),
            "assessment": {
                "id": world.rng.randrange(10**6),
                "name": "Sleep check",
                "status": "COMPLETED",
                "assessmentQuestionnaireObject": [
                    {
                        "pageNumber": 1,
                        "linkId": "q1",
                        "heading": "Sleep",
                        "label": "How many hours do you sleep?",
                        "type": "number",
                    }
                ],
                "assessmentResponseObject": {"q1": world.rng.randint(3, 9), "q2": "wakes once"},
                "assignedServiceProviders": [{"id": 12}],
            },
        },
    }


def _file(world: _World) -> Body:
    number = world.rng.randrange(10**6)
    return {
        "eventName": "UploadedFileAndTest",
        "data": {
            "patient": {**_azodha_patient(world), "birthDate": "1990-01-01"},
            "file": {"id": number, "name": "labs.pdf", "cloudId": f"{number}/labs.pdf", "isArchived": False},
            "providers": [],
        },
    }
