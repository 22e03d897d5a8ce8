"""Code systems and kinds of identifiers of MediQuo's mappings."""

from collections.abc import Mapping

from fhirline.mappers.declarations import CodeSystem

CHANNEL = CodeSystem(
    "mediquo-channel",
    "MediQuo channels",
    "The channel of a MediQuo consultation (consultation.channel).",
    table="mediquo-channel",
)
CONSULTATION_TYPE = CodeSystem(
    "mediquo-consultation-type",
    "MediQuo consultation types",
    "The type of a MediQuo consultation (consultation.type).",
    table="mediquo-consultation-type",
)
SPECIALITY = CodeSystem(
    "mediquo-speciality",
    "MediQuo specialities",
    "MediQuo's own number of a speciality (consultation.speciality.id). MediQuo publishes no list of them.",
    open=True,
)

CODE_SYSTEMS = (CHANNEL, CONSULTATION_TYPE, SPECIALITY)

IDENTIFIERS: Mapping[str, str] = {
    "allergy": "An allergy of the patient's history in MediQuo",
    "block": "A block of a professional's calendar in MediQuo",
    "consultation": "A MediQuo consultation",
    "derivation": "A referral (derivation) of a MediQuo consultation",
    "disease": "A disease of the patient's history in MediQuo",
    "medication": "A medication of the patient's history in MediQuo",
    "patient": "The patient's code, by which MediQuo's partner knows the patient",
    "prescription": "A MediQuo prescription; all of its substances have it as group identifier",
    "professional": "A professional: MediQuo's id, or the hash where no id is sent",
    "report": "A report of a MediQuo consultation",
}
