"""An enriched survey while it is mapped: its names, and what became of the leaves that were read."""

from dataclasses import dataclass, field

from fhirline.mappers.context import Context

PARAGRAPH = "§10"


@dataclass(frozen=True, slots=True)
class Survey:
    """``id`` is the vendor's; ``claims`` are the ledger's (`MappingResult.claims`)."""

    context: Context
    id: str
    patient_id: str
    claims: dict[str, str] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        """Reference of the Patient."""
        return self.context.reference("Patient", "patient", self.patient_id)

    @property
    def response(self) -> str:
        """Reference of the QuestionnaireResponse."""
        return self.context.reference("QuestionnaireResponse", "survey", self.id)

    def mapped(self, *pointers: str) -> None:
        self.claims.update((pointer, f"mapped {PARAGRAPH}") for pointer in pointers)

    def mapped_fields(self, pointer: str, sent: object, *names: str) -> None:
        """The fields of what stands at ``pointer`` that could be read."""
        self.mapped(*(f"{pointer}/{name}" for name in names if getattr(sent, name) is not None))

    def kept(self, *pointers: str) -> None:
        self.claims.update((pointer, f"kept {PARAGRAPH}") for pointer in pointers)
