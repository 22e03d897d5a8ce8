"""Checks of the cluster before a command begins."""

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.streams.cli.options import TIMEOUT
from fhirline.streams.kafka.acl_check import require_privileges
from fhirline.streams.kafka.connect import connect
from fhirline.streams.observe.terminal import counted
from fhirline.topics.declared import declared


def require_topics(settings: Settings, process: str | None = None) -> None:
    """Require every declared topic, with the declared number of partitions, and the privileges of ``process``.

    The number matters because it decides the partition of a key. ``process``: a name in ``topics/privileges.py``.
    Raises ConfigurationError.
    """
    present = connect(settings, TIMEOUT).topics
    if process is not None:
        require_privileges(settings, process)
    unseen = "" if settings.security_protocol == "PLAINTEXT" else ", or this Kafka user may not see it"
    for topic in declared(settings):
        if topic.name not in present:
            raise ConfigurationError(f"topic {topic.name} is missing{unseen}: run `fhirline topics apply`")
        if (found := len(present[topic.name].partitions)) != topic.partitions:
            raise ConfigurationError(
                f"topic {topic.name} has {counted(found, 'partition')}, but FHIRLINE_PARTITIONS is {topic.partitions}: "
                "set it to the number that the topics were created with, or keys change their partitions"
            )
