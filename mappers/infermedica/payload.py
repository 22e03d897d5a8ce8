"""Infermedica's webhook body and the enriched event (vendor-payloads.md §2.1 to §2.3)."""

from typing import ClassVar, Generic, NamedTuple, TypeVar

from fhirline.mappers.icd10 import Icd10Code
from fhirline.mappers.payload import Id, Items, Maybe, Number, Payload, Text

Value = TypeVar("Value")


class Located(NamedTuple, Generic[Value]):
    """A value that may be sent in several places, and the JSON Pointer where it was found."""

    pointer: str
    value: Value


class SummaryPatient(Payload):
    id: Id = None
    sex: Text = None
    email: Text = None
    phone: Text = None
    full_name: Text = None


class Duration(Payload):
    """The time for which a symptom has lasted."""

    value: Number = None
    unit: Text = None


class Evidence(Payload):
    """A symptom or risk factor about which the patient was asked."""

    id: Id = None
    name: Text = None
    choice_id: Text = None
    duration: Maybe[Duration] = None


class SummaryNames(Payload):
    """The part of a summary that names its patient."""

    patient: Maybe[SummaryPatient] = None


class Summary(SummaryNames):
    """The survey's summary: the parts that become more than items of the QuestionnaireResponse."""

    read_whole: ClassVar[bool] = True
    present_symptoms: Items[Evidence] = ()
    absent_symptoms: Items[Evidence] = ()
    skipped_symptoms: Items[Evidence] = ()
    risk_factors: Items[Evidence] = ()


class Icd10(Payload):
    code: Icd10Code = None


class RankedCondition(Payload):
    id: Id = None
    name: Text = None
    probability: Number = None
    icd10: Items[Icd10] = ()
    rating: Text = None


class SeriousEvidence(Payload):
    id: Id = None
    name: Text = None
    seriousness: Text = None


class Triage(Payload):
    level: Text = None
    description: Text = None
    serious: Items[SeriousEvidence] = ()


class EvidenceAssessment(Payload):
    conditions: Items[RankedCondition] = ()
    triage: Maybe[Triage] = None


class ContentNames(Payload):
    survey_id: Id = None
    summary: Maybe[SummaryNames] = None


class SurveyNames(Payload):
    """The part of a survey that names it and its patient. Any body is read as this one (mapping.md §2.3)."""

    content: Maybe[ContentNames] = None
    survey_id: Id = None
    summary: Maybe[SummaryNames] = None

    @property
    def survey(self) -> Located[str] | None:
        """Return the survey's id; None where none is sent."""
        if self.content and self.content.survey_id:
            return Located("/content/survey_id", self.content.survey_id)
        return Located("/survey_id", self.survey_id) if self.survey_id else None

    @property
    def patient_id(self) -> str | None:
        """Return the patient's id; None where the event names no patient."""
        summary = self.summary or (self.content and self.content.summary)
        return summary.patient.id if summary and summary.patient else None


class Content(ContentNames):
    """The member ``content``. The vendor sends ``survey_id`` here. The others are accepted here and in the body."""

    summary: Maybe[Summary] = None
    evidence_assessment: Maybe[EvidenceAssessment] = None


class SurveyFinished(SurveyNames):
    """``survey_finished``: thin, with a survey's id only, or enriched with the survey's results."""

    event_type: Text = None
    content: Maybe[Content] = None
    summary: Maybe[Summary] = None
    evidence_assessment: Maybe[EvidenceAssessment] = None

    @property
    def summarized(self) -> Located[Summary] | None:
        """Return the survey's summary; None where none is sent."""
        if self.summary:
            return Located("/summary", self.summary)
        if self.content and self.content.summary:
            return Located("/content/summary", self.content.summary)
        return None

    @property
    def assessed(self) -> Located[EvidenceAssessment] | None:
        """Return the survey's evidence assessment; None where none is sent."""
        if self.evidence_assessment:
            return Located("/evidence_assessment", self.evidence_assessment)
        if self.content and self.content.evidence_assessment:
            return Located("/content/evidence_assessment", self.content.evidence_assessment)
        return None
