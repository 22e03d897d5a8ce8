"""R4's invariants of resources, each function named by its key (see `invariants`)."""

from fhirline.mappers.fhir.validation.datatype_invariants import UCUM, any_of_choice, concerns, exists, later
from fhirline.mappers.results import Element, Resource

_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"


def _coded(concept: Element | None, system: str, *codes: str) -> bool:
    return concept is not None and any(
        coding.get("system") == system and coding.get("code") in codes for coding in concept.get("coding", ())
    )


def ait_1(allergy: Resource) -> bool:
    """AllergyIntolerance.clinicalStatus SHALL be present if verificationStatus is not entered-in-error.

    ``verificationStatus.coding.where(system = '…/allergyintolerance-verification' and code =
    'entered-in-error').exists() or clinicalStatus.exists()``
    """
    return "clinicalStatus" in allergy or _coded(
        allergy.get("verificationStatus"), f"{_TERMINOLOGY}allergyintolerance-verification", "entered-in-error"
    )


@concerns("verificationStatus")
def ait_2(allergy: Resource) -> bool:
    """AllergyIntolerance.clinicalStatus SHALL NOT be present if verification Status is entered-in-error

    ``verificationStatus.coding.where(system = '…/allergyintolerance-verification' and code =
    'entered-in-error').empty() or clinicalStatus.empty()``
    """
    return "clinicalStatus" not in allergy or not _coded(
        allergy.get("verificationStatus"), f"{_TERMINOLOGY}allergyintolerance-verification", "entered-in-error"
    )


def app_1(participant: Element) -> bool:
    """Either the type or actor on the participant SHALL be specified

    ``type.exists() or actor.exists()``
    """
    return "type" in participant or "actor" in participant


def app_2(appointment: Resource) -> bool:
    """Either start and end are specified, or neither

    ``start.exists() = end.exists()``
    """
    return exists(appointment, "start") == exists(appointment, "end")


def app_3(appointment: Resource) -> bool:
    """Only proposed or cancelled appointments can be missing start/end dates

    ``(start.exists() and end.exists()) or (status in ('proposed' | 'cancelled' | 'waitlist'))``
    """
    if exists(appointment, "start") and exists(appointment, "end"):
        return True
    return appointment.get("status") in {"proposed", "cancelled", "waitlist"}


@concerns("cancelationReason")
def app_4(appointment: Resource) -> bool:
    """Cancelation reason is only used for appointments that have been cancelled, or no-show

    ``Appointment.cancelationReason.exists() implies (Appointment.status='no-show' or Appointment.status='cancelled')``

    R4's expression names ``no-show``, which is no code of the status: servers refuse a reason with ``noshow``.
    """
    return "cancelationReason" not in appointment or appointment.get("status") == "cancelled"


def cmp_1(section: Element) -> bool:
    """A section must contain at least one of text, entries, or sub-sections

    ``text.exists() or entry.exists() or section.exists()``
    """
    return "text" in section or "entry" in section or "section" in section


@concerns("emptyReason")
def cmp_2(section: Element) -> bool:
    """A section can only have an emptyReason if it is empty

    ``emptyReason.empty() or entry.empty()``
    """
    return "emptyReason" not in section or "entry" not in section


def con_1(stage: Element) -> bool:
    """Stage SHALL have summary or assessment

    ``summary.exists() or assessment.exists()``
    """
    return "summary" in stage or "assessment" in stage


def con_2(evidence: Element) -> bool:
    """evidence SHALL have code or details

    ``code.exists() or detail.exists()``
    """
    return "code" in evidence or "detail" in evidence


@concerns("abatement*")
def con_4(condition: Resource) -> bool:
    """If condition is abated, then clinicalStatus must be either inactive, resolved, or remission

    ``abatement.empty() or clinicalStatus.coding.where(system='…/condition-clinical' and (code='resolved' or
    code='remission' or code='inactive')).exists()``
    """
    return not any_of_choice(condition, "abatement") or _coded(
        condition.get("clinicalStatus"), f"{_TERMINOLOGY}condition-clinical", "resolved", "remission", "inactive"
    )


@concerns("verificationStatus")
def con_5(condition: Resource) -> bool:
    """Condition.clinicalStatus SHALL NOT be present if verification Status is entered-in-error

    ``verificationStatus.coding.where(system='…/condition-ver-status' and code='entered-in-error').empty() or
    clinicalStatus.empty()``
    """
    return "clinicalStatus" not in condition or not _coded(
        condition.get("verificationStatus"), f"{_TERMINOLOGY}condition-ver-status", "entered-in-error"
    )


@concerns("reference")
def cpl_3(activity: Element) -> bool:
    """Provide a reference or detail, not both

    ``detail.empty() or reference.empty()``
    """
    return "detail" not in activity or "reference" not in activity


@concerns("onBehalfOf")
def ctm_1(participant: Element) -> bool:
    """CareTeam.participant.onBehalfOf can only be populated when CareTeam.participant.member is a Practitioner

    ``onBehalfOf.exists() implies (member.resolve().iif(empty(), true, ofType(Practitioner).exists()))``
    """
    if "onBehalfOf" not in participant:
        return True
    member = participant.get("member", {}).get("reference")
    return member is None or not (each := member.split("/")[-2:-1]) or each == ["Practitioner"]


@concerns("authoredOn")
def inv_1(task: Resource) -> bool:
    """Last modified date must be greater than or equal to authored-on date.

    ``lastModified.exists().not() or authoredOn.exists().not() or lastModified >= authoredOn``
    """
    return "lastModified" not in task or "authoredOn" not in task or not later(task["authoredOn"], task["lastModified"])


@concerns("emptyReason")
def lst_1(list_: Resource) -> bool:
    """A list can only have an emptyReason if it is empty

    ``emptyReason.empty() or entry.empty()``
    """
    return "emptyReason" not in list_ or "entry" not in list_


@concerns("entry")
def lst_2(list_: Resource) -> bool:
    """The deleted flag can only be used if the mode of the list is "changes"

    ``mode = 'changes' or entry.deleted.empty()``
    """
    return list_.get("mode") == "changes" or not any(exists(entry, "deleted") for entry in list_.get("entry", ()))


@concerns("entry")
def lst_3(list_: Resource) -> bool:
    """An entry date can only be used if the mode of the list is "working"

    ``mode = 'working' or entry.date.empty()``
    """
    return list_.get("mode") == "working" or not any(exists(entry, "date") for entry in list_.get("entry", ()))


def obs_3(reference_range: Element) -> bool:
    """Must have at least a low or a high or text

    ``low.exists() or high.exists() or text.exists()``
    """
    return "low" in reference_range or "high" in reference_range or exists(reference_range, "text")


@concerns("dataAbsentReason")
def obs_6(observation: Resource) -> bool:
    """dataAbsentReason SHALL only be present if Observation.value[x] is not present

    ``dataAbsentReason.empty() or value.empty()``
    """
    return "dataAbsentReason" not in observation or not any_of_choice(observation, "value")


@concerns("component")
def obs_7(observation: Resource) -> bool:
    """If Observation.code is the same as an Observation.component.code then the value element associated with the code
    SHALL NOT be present

    ``value.empty() or component.code.where(coding.intersect(%resource.code.coding).exists()).empty()``
    """
    if "component" not in observation or not any_of_choice(observation, "value"):
        return True
    own = observation["code"].get("coding", ())
    return not any(coding in own for part in observation["component"] for coding in part["code"].get("coding", ()))


def org_1(organization: Resource) -> bool:
    """The organization SHALL at least have a name or an identifier, and possibly more than one

    ``(identifier.count() + name.count()) > 0``
    """
    return "identifier" in organization or exists(organization, "name")


@concerns("address")
def org_2(organization: Resource) -> bool:
    """An address of an organization can never be of use 'home'

    ``where(use = 'home').empty()``
    """
    return not any(address.get("use") == "home" for address in organization.get("address", ()))


@concerns("telecom")
def org_3(organization: Resource) -> bool:
    """The telecom of an organization can never be of use 'home'

    ``where(use = 'home').empty()``
    """
    return not any(telecom.get("use") == "home" for telecom in organization.get("telecom", ()))


def pat_1(contact: Element) -> bool:
    """SHALL at least contain a contact's details or a reference to an organization

    ``name.exists() or telecom.exists() or address.exists() or organization.exists()``
    """
    return "name" in contact or "telecom" in contact or "address" in contact or "organization" in contact


@concerns("orderDetail")
def prr_1(request: Resource) -> bool:
    """orderDetail SHALL only be present if code is present

    ``orderDetail.empty() or code.exists()``
    """
    return "orderDetail" not in request or "code" in request


@concerns("item")
def qrs_1(item: Element) -> bool:
    """Nested item can't be beneath both item and answer

    ``(answer.exists() and item.exists()).not()``
    """
    return "answer" not in item or "item" not in item


@concerns("probabilityRange")
def ras_1(prediction: Element) -> bool:
    """low and high must be percentages, if present

    ``(low.empty() or ((low.code = '%') and (low.system = %ucum))) and (high.empty() or ((high.code = '%') and
    (high.system = %ucum)))``
    """
    bounds = prediction.get("probabilityRange", {})
    return all(
        (bounds[bound].get("code"), bounds[bound].get("system")) == ("%", UCUM)
        for bound in ("low", "high")
        if bound in bounds
    )


@concerns("probabilityDecimal")
def ras_2(prediction: Element) -> bool:
    """Must be <= 100

    ``probability is decimal implies (probability as decimal) <= 100``
    """
    return bool(prediction.get("probabilityDecimal", 0) <= 100)


@concerns("query", "_query")
def sev_1(entity: Element) -> bool:
    """Either a name or a query (NOT both)

    ``name.empty() or query.empty()``
    """
    return not exists(entity, "name") or not exists(entity, "query")
