"""Infermedica's webhook body and the enriched event (vendor-payloads.md §2.1 to §2.3)."""

from fhirline.mappers.payload import Items, Maybe, Number, Payload, Text


class SummaryPatient(Payload):
    id: Text = None
    sex: Text = None
    email: Text = None
    phone: Text = None
    full_name: Text = None


class Evidence(Payload):
    """A symptom or risk factor that the patient was asked about."""

    id: Text = None
    name: Text = None
    choice_id: Text = None


class Summary(Payload):
    """The survey's summary, as far as it becomes more than items of the QuestionnaireResponse."""

    patient: Maybe[SummaryPatient] = None
    present_symptoms: Items[Evidence] = ()
    absent_symptoms: Items[Evidence] = ()
    risk_factors: Items[Evidence] = ()


class Icd10(Payload):
    code: Text = None


class RankedCondition(Payload):
    id: Text = None
    name: Text = None
    probability: Number = None
    icd10: Items[Icd10] = ()
    rating: Text = None


class SeriousEvidence(Payload):
    id: Text = None
    name: Text = None
    seriousness: Text = None


class Triage(Payload):
    level: Text = None
    description: Text = None
    serious: Items[SeriousEvidence] = ()


class EvidenceAssessment(Payload):
    conditions: Items[RankedCondition] = ()
    triage: Maybe[Triage] = None


class Content(Payload):
    """``survey_id`` is all that the vendor sends; the other two are accepted here as well as in the body."""

    survey_id: Text = None
    summary: Maybe[Summary] = None
    evidence_assessment: Maybe[EvidenceAssessment] = None


class SurveyFinished(Payload):
    """``survey_finished``: a thin event, just a survey's id; enriched, with what the survey found."""

    event_type: Text = None
    content: Maybe[Content] = None
    survey_id: Text = None
    summary: Maybe[Summary] = None
    evidence_assessment: Maybe[EvidenceAssessment] = None

    @property
    def survey(self) -> tuple[str, str] | None:
        """(pointer, value) of the survey's id."""
        if self.content and self.content.survey_id:
            return "/content/survey_id", self.content.survey_id
        return ("/survey_id", self.survey_id) if self.survey_id else None

    @property
    def summarized(self) -> tuple[str, Summary] | None:
        """(pointer, model) of the summary."""
        if self.summary:
            return "/summary", self.summary
        return ("/content/summary", self.content.summary) if self.content and self.content.summary else None

    @property
    def assessed(self) -> tuple[str, EvidenceAssessment] | None:
        """(pointer, model) of the evidence assessment."""
        if self.evidence_assessment:
            return "/evidence_assessment", self.evidence_assessment
        if self.content and self.content.evidence_assessment:
            return "/content/evidence_assessment", self.content.evidence_assessment
        return None

    @property
    def patient_id(self) -> str | None:
        summary = self.summarized
        return summary[1].patient.id if summary and summary[1].patient else None
