"""Altibbi ``recommendation_data`` → what the doctor found and recommends (mapping.md §9.2)."""

from mappers.altibbi.care_plan import follow_up
from mappers.altibbi.children import Unused, children, says
from mappers.altibbi.composition import Found, reading_view
from mappers.altibbi.consultation import Consultation, surroundings, unread_time, without_consultation
from mappers.altibbi.encounter import LATEST, encounter_fold
from mappers.altibbi.icd10 import diagnoses, symptoms
from mappers.altibbi.medication import medication_requests
from mappers.altibbi.payload import Data, Recommendation
from mappers.altibbi.post_call import answers, questionnaire_response
from mappers.altibbi.service_request import laboratory, referrals
from mappers.context import Context
from mappers.contract import Mapped


def recommendation(event: Recommendation, context: Context) -> Mapped:
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
    latest = {LATEST: {"diagnosis": [each.reference for each in diagnosis]}}
    return Mapped(
        made=(
            *surroundings(event, context),
            encounter_fold(
                consultation,
                {**latest, **says(made, context)},
                makes=[each.reference for each in made],
                besides=lambda registers: children(context, registers),
            ),
        ),
        flags=tuple(unused.flags),
        skipped=(*unused.pointers, *unread_time(context)),
    )
