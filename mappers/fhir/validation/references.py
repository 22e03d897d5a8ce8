"""Validation of references (https://hl7.org/fhir/R4/references.html): syntax, allowed types, and ``#id``.

The relative ``Type/id`` that we write is checked by one regular expression per set of targets. Other forms (absolute
URL, URN, fragment) are checked in Python. ``#id`` is looked up among the contained resources, which the caller passes
as pydantic-core's validation context: id → resource type.
"""

import re
from collections.abc import Sequence

from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import (
    ValidationInfo,
    literal_schema,
    no_info_plain_validator_function,
    str_schema,
    union_schema,
    with_info_plain_validator_function,
)

from fhirline.mappers.fhir.validation.primitives import FAST, OTHER

ANY = "Resource"

RESOURCES = tuple(
    (
        "Account ActivityDefinition AdverseEvent AllergyIntolerance Appointment AppointmentResponse AuditEvent "
        "Basic Binary BiologicallyDerivedProduct BodyStructure Bundle CapabilityStatement CarePlan CareTeam "
        "CatalogEntry ChargeItem ChargeItemDefinition Claim ClaimResponse ClinicalImpression CodeSystem "
        "Communication CommunicationRequest CompartmentDefinition Composition ConceptMap Condition Consent "
        "Contract Coverage CoverageEligibilityRequest CoverageEligibilityResponse DetectedIssue Device "
        "DeviceDefinition DeviceMetric DeviceRequest DeviceUseStatement DiagnosticReport DocumentManifest "
        "DocumentReference EffectEvidenceSynthesis Encounter Endpoint EnrollmentRequest EnrollmentResponse "
        "EpisodeOfCare EventDefinition Evidence EvidenceVariable ExampleScenario ExplanationOfBenefit "
        "FamilyMemberHistory Flag Goal GraphDefinition Group GuidanceResponse HealthcareService ImagingStudy "
        "Immunization ImmunizationEvaluation ImmunizationRecommendation ImplementationGuide InsurancePlan Invoice "
        "Library Linkage List Location Measure MeasureReport Media Medication MedicationAdministration "
        "MedicationDispense MedicationKnowledge MedicationRequest MedicationStatement MedicinalProduct "
        "MedicinalProductAuthorization MedicinalProductContraindication MedicinalProductIndication "
        "MedicinalProductIngredient MedicinalProductInteraction MedicinalProductManufactured "
        "MedicinalProductPackaged MedicinalProductPharmaceutical MedicinalProductUndesirableEffect "
        "MessageDefinition MessageHeader MolecularSequence NamingSystem NutritionOrder Observation "
        "ObservationDefinition OperationDefinition OperationOutcome Organization OrganizationAffiliation "
        "Parameters Patient PaymentNotice PaymentReconciliation Person PlanDefinition Practitioner "
        "PractitionerRole Procedure Provenance Questionnaire QuestionnaireResponse RelatedPerson RequestGroup "
        "ResearchDefinition ResearchElementDefinition ResearchStudy ResearchSubject RiskAssessment "
        "RiskEvidenceSynthesis Schedule SearchParameter ServiceRequest Slot Specimen SpecimenDefinition "
        "StructureDefinition StructureMap Subscription Substance SubstanceNucleicAcid SubstancePolymer "
        "SubstanceProtein SubstanceReferenceInformation SubstanceSourceMaterial SubstanceSpecification "
        "SupplyDelivery SupplyRequest Task TerminologyCapabilities TestReport TestScript ValueSet "
        "VerificationResult VisionPrescription "
    ).split()
)
"""R4's resource types, which a reference may name."""

_R4B_ONLY_SUBJECTS = frozenset({"Organization", "Procedure", "Practitioner", "Medication", "Substance"})
_ID = r"[A-Za-z0-9\-.]{1,64}"
_LITERAL = re.compile(rf"(?:https?://\S+/)?([A-Z][A-Za-z]+)/{_ID}(?:/_history/{_ID})?")
_URN = re.compile(r"urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+")
_ABSOLUTE = re.compile(r"https?://\S+")
_LOGICAL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:\S+")


def targets(structure: str, element: str, declared: Sequence[str]) -> tuple[str, ...]:
    """Return the resource types that R4 allows; none if any is allowed. R4B's five further subjects are left out."""
    if ANY in declared:
        return ()
    if element == "subject" and structure in {"Observation", "DiagnosticReport"}:
        return tuple(name for name in declared if name not in _R4B_ONLY_SUBJECTS)
    return tuple(declared)


def plain_reference(allowed: Sequence[str]) -> CoreSchema:
    """Return the schema of ``Type/id`` only, the form of the mappings' references to resources not contained."""
    return str_schema(pattern=rf"^(?:{'|'.join(allowed or RESOURCES)})/{_ID}$", strict=True)


def reference_text(allowed: Sequence[str]) -> CoreSchema:
    """Return the schema of ``Reference.reference`` with these target types; all types if there are none."""
    permitted = frozenset(allowed or RESOURCES)

    def _other_form(value: object, info: ValidationInfo) -> object:
        if not isinstance(value, str):
            raise PydanticCustomError("string_type", "A reference must be a string")
        if value.startswith("#"):
            return _fragment(value, permitted, info.context or {})
        if literal := _LITERAL.fullmatch(value):
            if literal[1] in permitted or (literal[1] not in RESOURCES and "://" in value):
                return value
            raise PydanticCustomError("reference-target", "The element does not refer to resources of this type")
        if _URN.fullmatch(value) or _ABSOLUTE.fullmatch(value):
            return value
        raise PydanticCustomError("reference-syntax", "Neither Type/id nor an absolute URL, a urn or #id")

    other = with_info_plain_validator_function(_other_form)
    return union_schema([(plain_reference(allowed), FAST), (other, OTHER)], mode="left_to_right")


def reference_type(allowed: Sequence[str]) -> CoreSchema:
    """Return the schema of ``Reference.type``: one of the target types, or an absolute URL of a logical model."""

    def _logical(value: object) -> object:
        if isinstance(value, str) and _LOGICAL.fullmatch(value):
            return value
        raise PydanticCustomError("reference-target", "The element does not refer to resources of this type")

    types = literal_schema(list(allowed or RESOURCES))
    other = no_info_plain_validator_function(_logical)
    return union_schema([(types, FAST), (other, OTHER)], mode="left_to_right")


def _fragment(value: str, permitted: frozenset[str], contained: dict[str, str]) -> str:
    """Check ref-1: ``#id`` names a contained resource; ``#`` alone, within a contained one, the container."""
    if value == "#":
        return value
    target = contained.get(value[1:])
    if target is None:
        raise PydanticCustomError("ref-1", "SHALL have a contained resource if a local reference is provided")
    if target not in permitted:
        raise PydanticCustomError("reference-target", "The element does not refer to resources of this type")
    return value
