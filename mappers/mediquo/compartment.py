"""What the events of a patient share: whose they are, and what becomes of an event that names no patient."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fhirline.mappers import people
from fhirline.mappers.context import Context
from fhirline.mappers.fhir.elements import reference
from fhirline.mappers.identity import Part
from fhirline.mappers.json_pointer import escape
from fhirline.mappers.mediquo.payload import Patient, Professional
from fhirline.mappers.mediquo.professional import PROFESSIONAL, Professionals, professionals
from fhirline.mappers.results import Element, Flag, Flags, MappingResult, NewResource, Refused, Resource

CODE = "/payload/patient/code"
WHOLE_EVENT = ""
"""JSON Pointer of all that was sent: what an event that makes nothing leaves out."""

_UNSAID = frozenset({"value-unreadable", "period-inverted"})
"""Flags of values that were left out: the ledger keeps what stands at their pointers."""

_NAMES_PROFESSIONAL = frozenset({"Appointment", "Composition", "Encounter", "MedicationRequest", "ServiceRequest"})


@dataclass(slots=True)
class Compartment:
    """A patient's compartment, of which every key starts with the patient's code (mapping.md §4.1).

    Builders read as if the patient were known; `mapped` refuses what they made where that is not so. ``flags`` are the
    event's own; ``omitted`` the pointers of what was read and left out; ``unmapped`` as `MappingResult.unmapped`.
    """

    context: Context
    code: str | None
    professionals: Professionals
    flags: Flags = field(default_factory=Flags)
    omitted: list[str] = field(default_factory=list)
    unmapped: dict[str, str] = field(default_factory=dict)

    @property
    def subject(self) -> Element | None:
        return reference(self.context.reference("Patient", "patient", self.code))

    @property
    def professional(self) -> Element | None:
        return self.professionals.mention

    def resource(self, resource_type: str, kind: str, parts: Sequence[Part], /, **content: object) -> Resource:
        return self.context.resource(resource_type, kind, (self.code, *parts), **content)

    def skip(self, *pointers: str) -> None:
        self.omitted.extend(pointers)

    def mapped(self, made: Sequence[NewResource], refused: Sequence[Refused] = ()) -> MappingResult:
        """The event's Patient, Practitioner and ``made``; without a patient just the Practitioner (§12.5)."""
        context, practitioner = self.context, self.professionals.practitioner
        omitted = [*timestamp_unsaid(context), *self.professionals.unsaid]
        types = {each.resource["resourceType"] for each in made}
        if self.code is None:
            flags: tuple[Flag, ...] = (Flag("patient-missing", (CODE,)),)
            types.update(each.resource_type for each in refused)
            refused = [Refused(each, Flag("resource-refused", (CODE,))) for each in sorted(types)]
            omitted += _all_but_the_professional(context.raw("/payload"))
            made, types = (), set()
        else:
            flags = tuple(self.flags)
            omitted += self.omitted
            omitted += (place for each in made for flag in each.flags if flag.code in _UNSAID for place in flag.at)
        if practitioner is None and not types & _NAMES_PROFESSIONAL:
            omitted.append(PROFESSIONAL)
        patient = people.patient(context, "patient", self.code) if self.code else None
        everything = tuple(each for each in (patient, practitioner, *made) if each is not None)
        return MappingResult(
            resources=everything,
            flags=flags,
            refused=tuple(refused),
            professional=self.professionals.literal,
            omitted=tuple(omitted) if everything else (WHOLE_EVENT,),
            unmapped=self.unmapped,
        )


def compartment(patient: Patient | None, professional: Professional | None, context: Context) -> Compartment:
    return Compartment(context, patient.code if patient else None, professionals(professional, context))


def _all_but_the_professional(payload: object) -> list[str]:
    places = (f"/payload/{escape(key)}" for key in payload) if isinstance(payload, dict) else ()
    return [place for place in places if place != PROFESSIONAL]


def timestamp_unsaid(context: Context) -> tuple[str, ...]:
    """``occurred_on`` where it could not stand as the event time (mapping.md §3.3)."""
    return ("/occurred_on",) if "timestamp-invalid" in context.time.flags else ()


def source_data(context: Context, pointer: str, value: str | None) -> Element | None:
    return context.source_data(pointer, value) if value else None
