"""Altibbi ``recommendation_data`` → what the doctor found and recommends (mapping.md §9.2)."""

from collections.abc import Sequence

from fhirline.mappers.altibbi.care_plan import care_plan
from fhirline.mappers.altibbi.children import Child, built_children, child_entries
from fhirline.mappers.altibbi.composition import SectionEntries, reading_view
from fhirline.mappers.altibbi.consultation import (
    Consultation,
    patient_and_coverage,
    refuse_consultation,
    unread_time,
)
from fhirline.mappers.altibbi.diagnoses import diagnoses, symptoms
from fhirline.mappers.altibbi.encounter import LATEST, MENTION, encounter_fold
from fhirline.mappers.altibbi.medication import medication_requests
from fhirline.mappers.altibbi.payload import Data, Recommendation
from fhirline.mappers.altibbi.post_call import post_call_answers, questionnaire_response
from fhirline.mappers.altibbi.service_request import laboratory, referrals
from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context, constant
from fhirline.mappers.payload import absent
from fhirline.mappers.results import Fold, MappingResult


def recommendation(event: Recommendation, context: Context) -> MappingResult:
    """Map one recommendation; every part of it is optional (mapping.md §9.2)."""
    build = MappingBuilder()
    build.omit(*unread_time(context))
    build.add(*patient_and_coverage(event, context))  # §9.1.2
    if event.user_id is None or event.consultation_id is None:
        refuse_consultation(event, build)
        return build.result()
    consultation = Consultation(context, event.user_id, event.consultation_id)
    data = event.data or Data()

    observations = symptoms(data, consultation, build)  # §9.2.3
    conditions = diagnoses(data, consultation, build)  # §9.2.2
    drugs = medication_requests(data, consultation, build)  # §9.2.4
    tests = laboratory(data, consultation, build)  # §9.2.5
    specialists = referrals(data, consultation, build)  # §9.2.6
    plans = care_plan(data, consultation, build)  # §9.2.7
    answers = post_call_answers(data, consultation, build)  # §9.2.8
    responses = questionnaire_response(answers, consultation)
    entries = SectionEntries(observations, conditions, drugs, tests, specialists, plans, responses)
    children = [*entries, *reading_view(answers, entries, consultation)]

    build.add(*(constant(drug.medication) for drug in drugs if drug.medication))
    if children:
        build.add(_latest(children, conditions, consultation))
    else:
        build.flag(_reason_for_nothing(context.raw("/data")), "/data")
        build.add(
            encounter_fold(consultation, {MENTION: None}, also_build=lambda entries: built_children(context, entries))
        )
    return build.result()


def _latest(children: Sequence[Child], conditions: Sequence[Child], consultation: Consultation) -> Fold:
    """Make the Fold of a recommendation with content: the Encounter (§9.2.1) and the children (§3.5)."""
    context = consultation.context
    latest = {LATEST: {"diagnosis": [condition.reference for condition in conditions]}}
    return encounter_fold(
        consultation,
        updates={**latest, **child_entries(children, context)},
        targets=[child.reference for child in children],
        also_build=lambda entries: built_children(context, entries),
    )


def _reason_for_nothing(data: object) -> str:
    """Return the flag of a recommendation without content. It replaces no earlier one: absent is not negative (§1)."""
    return "item-empty" if absent(data) or isinstance(data, dict) else "value-unreadable"
