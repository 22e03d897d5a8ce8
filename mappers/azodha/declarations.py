"""Code systems and kinds of identifiers of Azodha's mappings."""

from collections.abc import Mapping

from fhirline.mappers.declarations import CodeSystem, Concept

OBSERVABLE = CodeSystem(
    "azodha-observable",
    "Azodha observables",
    "Scores that Azodha's events contain. They are computed by Azodha, by rules that are not published.",
    (
        Concept("wellbeingScore", "Wellbeing score", "The field wellbeingScore of an Azodha event."),
        Concept("score", "Score", "The field score of an Azodha event."),
    ),
)

CODE_SYSTEMS = (OBSERVABLE,)

IDENTIFIERS: Mapping[str, str] = {
    "appointment": "An Azodha appointment",
    "assessment": "An Azodha assessment",
    "assessment-response": "A response to an Azodha assessment",
    "care-plan": "An Azodha care plan",
    "care-task": "An Azodha care task",
    "cloud-file": "A file in Azodha's cloud storage (cloudId)",
    "file": "A file that was uploaded to Azodha",
    "patient": "An Azodha patient",
    "professional": "A provider of Azodha: the id, or the e-mail address in lower case where no id is sent",
    "program": "An Azodha health program",
}
