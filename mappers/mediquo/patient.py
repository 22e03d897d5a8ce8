"""The patient of a MediQuo event, and the result of an event that names none (mapping.md §4.1, §12.5)."""

from collections.abc import Sequence
from dataclasses import dataclass

from fhirline.mappers import people
from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context
from fhirline.mappers.fhir.elements import reference
from fhirline.mappers.identity import Part
from fhirline.mappers.json_pointer import escape
from fhirline.mappers.mediquo.payload import Patient, Professional
from fhirline.mappers.mediquo.professional import PROFESSIONAL, Professionals, professionals
from fhirline.mappers.results import Element, Fold, MappingResult, NewResource, Resource

CODE = "/payload/patient/code"

NAMES_PROFESSIONAL = frozenset({"Appointment", "Composition", "Encounter", "MedicationRequest", "ServiceRequest"})
"""Types that refer to the professional, so that a name or id without a Practitioner is mapped there."""

NEEDS_NO_PATIENT = frozenset({"Medication", "Practitioner"})
"""Types that are not refused where an event names no patient. A Medication is not made either: no request needs it."""


@dataclass(frozen=True, slots=True)
class PatientEvent:
    """An event of a patient. Every key starts with the patient's code (mapping.md §4.1).

    ``code`` is None for an event that names no patient. Its mapping makes the same resources; `result` refuses them.
    """

    context: Context
    code: str | None
    professionals: Professionals

    @classmethod
    def of(cls, patient: Patient | None, professional: Professional | None, context: Context) -> "PatientEvent":
        """Read the patient and the professional of a payload."""
        return cls(context, patient.code if patient else None, professionals(professional, context))

    @property
    def subject(self) -> Element | None:
        """Return a Reference to the Patient."""
        return reference(self.context.reference("Patient", "patient", self.code))

    @property
    def professional(self) -> Element | None:
        """Return a Reference to the Practitioner; None where nobody is named."""
        return self.professionals.mention

    def resource(self, resource_type: str, kind: str, parts: Sequence[Part], /, **content: object) -> Resource:
        """Make a resource of the patient; ``content`` in FHIR's element order."""
        return self.context.resource(resource_type, kind, (self.code, *parts), **content)

    def people(self) -> list[NewResource | Fold | None]:
        """Make the Patient (mapping.md §4.3) and the Practitioner (§8.1.2), as far as the event names them."""
        patient = people.patient(self.context, "patient", self.code) if self.code else None
        return [patient, self.professionals.practitioner]

    def result(self, build: MappingBuilder) -> MappingResult:
        """Return the event's result. Without a patient, everything but the Practitioner is refused (§12.5)."""
        if self.code is None:
            build = self._refused(build)
        build.omit(*unread_time(self.context), *self.professionals.omitted)
        if self.professionals.practitioner is None and not build.added_types & NAMES_PROFESSIONAL:
            build.omit(PROFESSIONAL)
        return build.result(professional=self.professionals.literal)

    def _refused(self, made: MappingBuilder) -> MappingBuilder:
        """Refuse what a mapping has made, since the event names no patient."""
        build = MappingBuilder()
        build.add(self.professionals.practitioner)
        build.flag("patient-missing", CODE)
        for resource_type in sorted((made.added_types | made.refused_types) - NEEDS_NO_PATIENT):
            build.refuse(resource_type, "resource-refused", CODE)
        build.omit(*_all_but_the_professional(self.context.raw("/payload")))
        for pointer, table in made.unmapped.items():
            build.count_unmapped(table, pointer)
        return build


def _all_but_the_professional(payload: object) -> list[str]:
    pointers = (f"/payload/{escape(key)}" for key in payload) if isinstance(payload, dict) else ()
    return [pointer for pointer in pointers if pointer != PROFESSIONAL]


def unread_time(context: Context) -> list[str]:
    """Return the pointer of an ``occurred_on`` that could not be the event time (mapping.md §3.3)."""
    return ["/occurred_on"] if "timestamp-invalid" in context.time.flags else []
