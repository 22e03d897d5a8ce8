"""Azodha's care tasks → Task (mapping.md §11.5)."""

from fhirline.mappers.azodha.appointment import Appointment
from fhirline.mappers.azodha.event import look_up
from fhirline.mappers.azodha.payload import Activity, ActivityLog, CareTask, CareTaskMention
from fhirline.mappers.azodha.reader import Found, Reader
from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import last_writer
from fhirline.mappers.fhir.elements import codeable_concept, data_absent, listed
from fhirline.mappers.identity import norm
from fhirline.mappers.results import Element, NewResource

MAPPED = "mapped §11.5"


def care_task(about: Appointment | None, reader: Reader, build: MappingBuilder) -> NewResource | None:
    """Make the Task; None where neither an id is sent, nor a name and the appointment to be keyed by.

    None also where it is refused, as the tenant refuses a status without a code.
    """
    context = reader.context
    task = reader.find(CareTask, reader.places("careTask", "task", bare=False))
    mention = reader.find(CareTaskMention, reader.places("careTask", "task"))
    id, id_at = _first(task, mention, "id", "careTaskId", "taskId")
    name, name_at = _first(task, mention, "name", "careTaskName", "taskName")
    text, text_at = (name, name_at) if name else _first(task, mention, "type")
    status, status_at = _first(task, mention, "status", "careTaskStatus", "taskStatus")
    if id is None and (name is None or about is None):
        return None
    key = reader.key(id) if id else reader.key(about.id if about else None, norm(name or ""))
    flags = reader.flags()
    row = look_up("azodha-task-status", status, status_at, reader, build)
    if row is None and context.settings.unknown_status == "refuse":
        build.refuse("Task", "status-required", *filter(None, [status_at]))
        return None
    if status and row is None:
        flags.add("unmapped-status", *filter(None, [status_at]))
    build.claim(MAPPED, id_at, text_at, status_at, about.id_at if about else None)
    resource = context.resource(
        "Task",
        "care-task",
        key,
        identifier=listed(context.identifier("care-task", id) if id else None),
        status=row.means["status"] if row else None,
        _status=None if row else data_absent("unsupported" if status else "unknown"),
        businessStatus=codeable_concept(text=status),
        intent="unknown",
        code=codeable_concept(text=text),
        focus=about.reference if about else None,
        for_=reader.subject,
        authoredOn=context.time.instant.text,
        _authoredOn=context.basis_event_time,
        note=_notes(reader, build),
    )
    return last_writer(resource, flags)


def _first(
    task: Found[CareTask], mention: Found[CareTaskMention], name: str, *mentions: str
) -> tuple[str | None, str | None]:
    """Return a field and its pointer: of the task's own object, else under one of the names of a mention."""
    if name in task.at:
        return getattr(task.model, name), task.at[name]
    return next(
        ((getattr(mention.model, other), mention.at[other]) for other in mentions if other in mention.at), (None, None)
    )


def _notes(reader: Reader, build: MappingBuilder) -> list[Element]:
    """Make an Annotation of each text of the activity log."""
    found = reader.find(ActivityLog, reader.places("careTask", "task"))
    notes = []
    for item in reader.context.items(found.at.get("activityLog", ""), found.model.activityLog):
        if isinstance(item.model, str):
            notes.append({"text": item.model})
            build.claim(MAPPED, item.pointer)
            continue
        for name in Activity.model_fields:
            if text := getattr(item.model, name):
                notes.append({"text": text})
                build.claim(MAPPED, f"{item.pointer}/{name}")
    return notes
