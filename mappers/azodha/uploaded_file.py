"""Azodha ``UploadedFileAndTest`` → DocumentReference (mapping.md §11.9)."""

import re

from fhirline.mappers.azodha.event import source_data, start
from fhirline.mappers.azodha.payload import File, FileKind
from fhirline.mappers.azodha.people import add_people
from fhirline.mappers.azodha.reader import Found, Reader
from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context, last_writer
from fhirline.mappers.fhir.elements import codeable_concept, data_absent, element, listed
from fhirline.mappers.payload import Payload
from fhirline.mappers.results import Element, MappingResult, NewResource

MAPPED, KEPT, WITHHELD = "mapped §11.9", "kept §11.9", "withheld §11.9"
STORAGE_FIELDS = ("url", "fileUrl", "downloadUrl", "signedUrl", "presignedUrl")
"""Fields that tell where the file is stored, which is not public."""
SOURCE_DATA_FIELDS = ("isArchived", "archived", "archivalStatus", "clientDetails")
_MIME = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(?:; ?[\w!#$&^.+-]+=[\w!#$&^.+\"-]+)*", re.ASCII)


def uploaded_file_and_test(_: Payload, context: Context) -> MappingResult:
    """Map an uploaded file → DocumentReference, Patient, Practitioners. Results of completed tests are not sent."""
    reader, build = start(context)
    add_people(reader, build)
    if reader.patient_id is None:
        build.refuse("DocumentReference", "patient-missing")
    elif document := document_reference(reader, build):
        build.add(document)
    else:
        build.refuse("DocumentReference", "resource-refused")
    return build.result()


def document_reference(reader: Reader, build: MappingBuilder) -> NewResource | None:
    """Make the DocumentReference; None without an id.

    It is ``current`` in any case: archiving supersedes no document. Details of a client that were read out of the file
    may be another patient's: they are source data, and never reach the Patient.
    """
    context = reader.context
    places, file_objects = reader.places("file"), reader.places("file", bare=False)
    found, kind = reader.find(File, places), reader.find(FileKind, file_objects)
    sent = found.model
    if sent.id is None:
        return None
    for name in STORAGE_FIELDS:
        build.claim(WITHHELD, reader.locate(name, file_objects))
    build.claim(MAPPED, *found.leaves("id", "name", "cloudId"))
    resource = context.resource(
        "DocumentReference",
        "file",
        reader.key(sent.id),
        extension=[
            extension
            for name in SOURCE_DATA_FIELDS
            if (pointer := reader.locate(name, places))
            for extension in source_data(pointer, KEPT, reader, build)
        ],
        identifier=listed(
            context.identifier("file", sent.id),
            context.identifier("cloud-file", sent.cloudId) if sent.cloudId else None,
        ),
        status="current",
        type=_type(kind, build),
        subject=reader.subject,
        date=context.time.instant.text,
        _date=context.basis_event_time,
        content=[{"attachment": _attachment(found, build)}],
    )
    return last_writer(resource, reader.flags())


def _type(kind: Found[FileKind], build: MappingBuilder) -> Element | None:
    name = next((name for name in ("type", "fileType") if getattr(kind.model, name)), None)
    if name is None:
        return None
    build.claim(MAPPED, *kind.leaves(name))
    return codeable_concept(text=getattr(kind.model, name))


def _attachment(found: Found[File], build: MappingBuilder) -> Element | None:
    """Make the Attachment. Its ``url`` is masked: with neither url nor data it would assert that there is no file."""
    name = next((name for name in ("mimeType", "contentType") if _is_mime(getattr(found.model, name))), None)
    if name:
        build.claim(MAPPED, *found.leaves(name))
    return element(
        contentType=getattr(found.model, name) if name else None,
        _url=data_absent("masked"),
        title=found.model.name,
    )


def _is_mime(text: str | None) -> bool:
    return bool(text and _MIME.fullmatch(text))
