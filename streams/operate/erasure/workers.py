"""Running workers, enrichments and deliveries that do not have the erasure key.

Such a process maps or delivers events of erased patients until it reads the first block. Then it ends, and cannot start
again without the key.
"""

from collections.abc import Iterator

from fhirline.config.errors import KafkaRequestFailed
from fhirline.config.settings import Settings
from fhirline.streams.deliver.stage import deliver_group
from fhirline.streams.enrich.stage import enrich_group
from fhirline.streams.operate.erasure.forget import required
from fhirline.streams.operate.status.groups import Groups, Member
from fhirline.streams.step3_restore.client_id import NO_KEY, key_mark


def without_the_key(settings: Settings) -> Iterator[str]:
    """Describe each member of the consumer groups that does not show this deployment's key, a line for each.

    Members show it by their client ids (`streams.step3_restore.client_id`). Groups of other names are not known.
    """
    mark = required(settings).mark
    processes = {settings.group: "worker", enrich_group(settings): "enrich", deliver_group(settings): "deliver"}
    try:
        groups = Groups(settings).read(tuple(processes))
    except KafkaRequestFailed as error:
        yield f"cannot tell whether the running workers have the erasure key: {error}"
        return
    for name, group in groups.items():
        process = processes[name]
        if group.unnamed:
            yield f"cannot tell whether {process} processes have the erasure key: the broker names no member of {name}"
        for member in group.processes:
            if problem := _problem(member, mark):
                yield f"{process} at {member.host} (group {name}) {problem}"


def _problem(member: Member, mark: str) -> str:
    found = key_mark(member.client_id)
    if found == mark:
        return ""
    if found is None:
        return (
            "does not show whether it has the erasure key, perhaps because its release is older: one that ignores "
            "blocks writes the patient's records again"
        )
    has = "has no erasure key" if found == NO_KEY else "has another erasure key"
    return f"{has}: it ends when it reads the block, and starts again only with the key"
