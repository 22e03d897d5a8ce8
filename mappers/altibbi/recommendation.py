"""Altibbi ``recommendation_data`` → what the doctor found and recommends (mapping.md §9.2)."""

from collections.abc import Sequence

from fhirline.mappers.altibbi.care_plan import follow_up
from fhirline.mappers.altibbi.children import Child, Unused, children, updates
from fhirline.mappers.altibbi.composition import Found, reading_view
from fhirline.mappers.altibbi.consultation import Consultation, surroundings, unread_time, without_consultation
from fhirline.mappers.altibbi.encounter import LATEST, MENTION, encounter_fold
from fhirline.mappers.altibbi.icd10 import diagnoses, symptoms
from fhirline.mappers.altibbi.medication import medication_requests
from fhirline.mappers.altibbi.payload import Data, Recommendation
from fhirline.mappers.altibbi.post_call import answers, questionnaire_response
from fhirline.mappers.altibbi.service_request import laboratory, referrals
from fhirline.mappers.context import Context
from fhirline.mappers.payload import absent
from fhirline.mappers.results import Fold, MappingResult


def recommendation(event: Recommendation, context: Context) -> MappingResult:
    """Everything that one recommendation says; every part of it is optional."""
    if event.user_id is None or event.consultation_id is None:
        return without_consultation(event, context)
    consultation = Consultation(context, event.user_id, event.consultation_id)
    data, unused = event.data or Data(), Unused()

    symptom = symptoms(data, consultation, unused)
    diagnosis = diagnoses(data, consultation, unused)
    medication = medication_requests(data, consultation, unused)
    lab = laboratory(data, consultation, unused)
    referral = referrals(data, consultation, unused)
    plan = follow_up(data, consultation, unused)
    answered = answers(data, consultation, unused)
    response = questionnaire_response(answered, consultation)
    found = Found(symptom, diagnosis, medication, lab, referral, plan, response)

    made = [*found, *reading_view(answered, found, consultation)]
    if made:
        fold = _latest(made, diagnosis, consultation)
    else:
        unused.flags.add(_why_nothing(context.raw("/data")), "/data")
        fold = encounter_fold(consultation, {MENTION: None})
    return MappingResult(
        resources=(*surroundings(event, context), fold),
        flags=tuple(unused.flags),
        omitted=(*unused.pointers, *unread_time(context)),
    )


def _latest(made: Sequence[Child], diagnosis: Sequence[Child], consultation: Consultation) -> Fold:
    """What this recommendation says; if no later one says something, what earlier ones said besides is absent."""
    context = consultation.context
    latest = {LATEST: {"diagnosis": [each.reference for each in diagnosis]}}
    return encounter_fold(
        consultation,
        {**latest, **updates(made, context)},
        targets=[each.reference for each in made],
        also_build=lambda registers: children(context, registers),
    )


def _why_nothing(data: object) -> str:
    """Absent is not negative (rule 5): a recommendation of nothing replaces none; so does one that cannot be read."""
    return "item-empty" if absent(data) or isinstance(data, dict) else "value-unreadable"
