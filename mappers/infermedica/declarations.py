"""Code systems and kinds of identifiers of Infermedica's mapping."""

from collections.abc import Mapping

from fhirline.mappers.declarations import CodeSystem, Concept

CONCEPT = CodeSystem(
    "infermedica-concept",
    "Infermedica concepts",
    "Infermedica's ids of symptoms (s_…), conditions (c_…) and risk factors (p_…). Infermedica's API lists them.",
    open=True,
)
OBSERVABLE = CodeSystem(
    "infermedica-observable",
    "Infermedica observables",
    "What an Observation of an Infermedica survey is about, beside the vendor's own concepts.",
    (
        Concept("duration", "Duration", "How long the patient has had the symptom."),
        Concept("triage-level", "Triage level", "The level of care that Infermedica's engine recommends."),
    ),
)
TRIAGE = CodeSystem(
    "infermedica-triage",
    "Infermedica triage levels",
    "Infermedica's triage levels (triage_level). They are asserted by software, not by a clinician.",
    (
        Concept("emergency_ambulance", "Emergency ambulance", "Infermedica's triage level emergency_ambulance."),
        Concept("emergency", "Emergency", "Infermedica's triage level emergency."),
        Concept("consultation_24", "Consultation within 24 hours", "Infermedica's triage level consultation_24."),
        Concept("consultation", "Consultation", "Infermedica's triage level consultation."),
        Concept("self_care", "Self-care", "Infermedica's triage level self_care."),
    ),
)

CODE_SYSTEMS = (CONCEPT, OBSERVABLE, TRIAGE)

IDENTIFIERS: Mapping[str, str] = {
    "patient": "The patient of an Infermedica survey, as its summary names it",
    "survey": "An Infermedica survey",
}
