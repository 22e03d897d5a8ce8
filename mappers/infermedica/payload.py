"""Infermedica's webhook body (vendor-payloads.md §2.1)."""

from mappers.payload import Maybe, Payload, Text


class Content(Payload):
    survey_id: Text = None


class SurveyFinished(Payload):
    """``survey_finished``: a thin event, just a survey's id."""

    event_type: Text = None
    content: Maybe[Content] = None
    survey_id: Text = None
