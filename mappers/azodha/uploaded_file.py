"""Azodha ``UploadedFileAndTest`` → DocumentReference (mapping.md §11.9)."""

import re

from fhirline.mappers.azodha.payload import File, FileKind
from fhirline.mappers.azodha.people import patient, patient_missing, professionals
from fhirline.mappers.azodha.reader import Reader
from fhirline.mappers.context import Context, last_writer
from fhirline.mappers.fhir.elements import codeable_concept, data_absent, element, listed, reference
from fhirline.mappers.payload import Payload
from fhirline.mappers.results import Flag, Fold, MappingResult, NewResource, Refused

PARAGRAPH = "§11.9"
STORAGE = ("url", "fileUrl", "downloadUrl", "signedUrl", "presignedUrl")
KEPT = ("isArchived", "archived", "archivalStatus", "clientDetails")
_MIME = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(?:; ?[\w!#$&^.+-]+=[\w!#$&^.+\"-]+)*", re.ASCII)


def uploaded_file_and_test(_: Payload, context: Context) -> MappingResult:
    """A file was uploaded → DocumentReference, Patient, Practitioners; of completed tests no result is described."""
    reader = Reader(context)
    person, providers = patient(reader), professionals(reader)
    made: list[NewResource | Fold] = [each.made for each in providers if each.made]
    if person is None:
        return reader.result(made, patient_missing("DocumentReference"))
    made.append(person)
    if document := document_reference(reader):
        return reader.result([*made, document])
    return reader.result(made, [Refused("DocumentReference", Flag("resource-refused"))])


def document_reference(reader: Reader) -> NewResource | None:
    """The file as far as it may be known: where it is stored is not public. None without an id.

    Archiving does not supersede a document, so that it is ``current`` in any case; what was read out of the file may be
    of another patient, and never reaches the Patient.
    """
    context = reader.context
    places = reader.places("file")
    found = reader.find(File, places)
    kind = reader.find(FileKind, reader.places("file", bare=False))
    sent = found.model
    if sent.id is None:
        return None
    mime_name = next((name for name in ("mimeType", "contentType") if _is_mime(getattr(sent, name))), None)
    kind_name = next((name for name in ("type", "fileType") if getattr(kind.model, name)), None)
    reader.mapped(found, PARAGRAPH, "id", "name", "cloudId", *filter(None, [mime_name]))
    if kind_name:
        reader.mapped(kind, PARAGRAPH, kind_name)
    for name in STORAGE:
        if pointer := reader.locate(name, reader.places("file", bare=False)):
            reader.claim(f"withheld {PARAGRAPH}", pointer)
    kept = [
        each for name in KEPT if (pointer := reader.locate(name, places)) for each in reader.keep(pointer, PARAGRAPH)
    ]
    return last_writer(
        context.resource(
            "DocumentReference",
            "file",
            reader.key(sent.id),
            extension=kept,
            identifier=listed(
                context.identifier("file", sent.id),
                context.identifier("cloud-file", sent.cloudId) if sent.cloudId else None,
            ),
            status="current",
            type=codeable_concept(text=getattr(kind.model, kind_name) if kind_name else None),
            subject=reference(reader.patient),
            date=context.time.instant.text,
            _date=context.basis_event_time,
            content=[
                {
                    "attachment": element(
                        contentType=getattr(sent, mime_name) if mime_name else None,
                        _url=data_absent("masked"),
                        title=sent.name,
                    )
                }
            ],
        ),
        reader.flags(),
    )


def _is_mime(text: str | None) -> bool:
    return bool(text and _MIME.fullmatch(text))
