"""The other keys of a patient's events: those of events that do not name the patient."""

from fhirline.mappers.infermedica.payload import SurveyFinished
from fhirline.mappers.pipeline.envelope import Envelope
from fhirline.mappers.routing import id_at
from fhirline.streams.step3_restore.erasure_list import Compartment


def aliases_of(envelope: Envelope) -> list[Compartment]:
    """Return the keys, by a survey or a file, of other events of the patient, which do not name the patient."""
    vendor, tenant, body = envelope.vendor, envelope.tenant, envelope.body
    if vendor == "infermedica" and (survey := SurveyFinished.model_validate(body).survey):
        return [Compartment.of(vendor, tenant, "survey", survey[1])]
    if vendor == "azodha" and (file := id_at(body, "/fileId")):
        return [Compartment.of(vendor, tenant, "file", file)]
    return []
