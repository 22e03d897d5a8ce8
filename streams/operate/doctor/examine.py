"""All checks, in order of dependence. A check that depends on a failed one is left out."""

import time
from collections.abc import Iterator, Mapping

from fhirline.config.errors import ConfigurationError, KafkaAccessError, KafkaRequestFailed
from fhirline.config.settings import PREFIX, Settings
from fhirline.config.vendors import load_vendors
from fhirline.streams.kafka.acl_check import missing
from fhirline.streams.kafka.clients import kafka_python
from fhirline.streams.kafka.connect import connect
from fhirline.streams.kafka.embedded_quirks import is_embedded
from fhirline.streams.operate.doctor import (
    cluster,
    configuration,
    encryption,
    fhir_server,
    machine,
    mapping,
    warehouse,
    work,
)
from fhirline.streams.operate.doctor.finding import Finding, Level, ok, problem
from fhirline.streams.operate.status.reading import Reader
from fhirline.streams.operate.status.summary import sources_of, summarize
from fhirline.topics.cluster import Cluster
from fhirline.topics.declared import declared
from fhirline.topics.plan import compare
from fhirline.topics.privileges import grants


def examine(settings: Settings, environment: Mapping[str, str], timeout: float, online: bool) -> Iterator[Finding]:
    """Run every check. ``timeout``: seconds for a cluster that does not answer. ``online``: also ask vendors' APIs and
    the FHIR server, and read every data key.
    """
    yield from local(settings, environment)
    if online:
        from fhirline.streams.operate.doctor.instances import reached

        yield from reached(settings)
        yield from fhir_server.reached(settings)
    yield from at_the_cluster(settings, timeout, online)


def local(settings: Settings, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Run the checks of this machine."""
    yield configuration.changed_settings(settings)
    yield configuration.identity(settings)
    yield (found := configuration.vendors_file(settings))
    if found.level is not Level.PROBLEM:
        vendors = load_vendors(settings.vendors_file)
        yield configuration.unknown_variables(vendors, environment)
        yield from configuration.credentials(vendors, environment, machine.gateway_is_ready(settings))
        yield configuration.time_zones(vendors)
        yield from configuration.enrichment(settings, vendors)
    yield from configuration.secret_files(settings)
    yield encryption.secrets(settings)
    yield from configuration.tables(settings)
    yield machine.gateway_port(settings)
    yield machine.metrics_port(settings)
    yield machine.replay_folder(settings)


def at_the_cluster(settings: Settings, timeout: float, online: bool = False) -> Iterator[Finding]:
    """Run the checks of the cluster, from the connection to the groups. Without one, only the clock is checked."""
    yield from cluster.bootstrap(settings)
    try:
        metadata = connect(settings, timeout)
    except (ConfigurationError, KafkaAccessError) as error:
        yield problem("kafka", str(error).removeprefix(f"{PREFIX}BOOTSTRAP: "), "correct the settings that it names")
        yield from machine.clock(time.time(), None, machine.clock_is_kept())
        return
    yield ok("kafka", f"cluster {metadata.cluster_id} answers over {settings.security_protocol}")
    yield from cluster.embedded(metadata.cluster_id)
    brokers = {id: (str(broker.host), broker.port) for id, broker in metadata.brokers.items()}
    yield from cluster.advertised(brokers, settings.bootstrap.split(","))
    checks = [_brokers(settings, min(brokers), timeout, is_embedded(metadata.cluster_id))]
    if configuration.vendors_file(settings).level is not Level.PROBLEM:  # the vendors determine the topics
        events_open = encryption.secrets(settings).level is not Level.PROBLEM
        checks += [
            _privileges(settings),
            _topics(settings, len(brokers), timeout, is_embedded(metadata.cluster_id)),
            *([encryption.at_the_cluster(settings, online)] if events_open else []),
            _work(settings, timeout),
            *([mapping.coverage(settings)] if events_open else []),
            warehouse.database(settings),
        ]
    for findings in checks:
        yield from _unless_it_fails(findings)


def _unless_it_fails(findings: Iterator[Finding]) -> Iterator[Finding]:
    """Turn a request that fails into a finding, so that the next checks run."""
    try:
        yield from findings
    except (ConfigurationError, KafkaAccessError) as error:
        yield problem("kafka", str(error), "fix what it names, and run this again: the rest of this check was skipped")


def _work(settings: Settings, timeout: float) -> Iterator[Finding]:
    """Check groups and dead letters, and the clock against the newest record."""
    vendors = load_vendors(settings.vendors_file)
    sources = sources_of(settings, vendors)
    groups = tuple(dict.fromkeys(source.group for source in sources))
    with Reader(settings, vendors.names, groups, timeout) as reader:
        reading = reader.read()
    found = summarize(settings.bootstrap, declared(settings), sources, reading, None)
    for members in found.members:
        name = members.group.name
        yield work.group(members, "worker" if name == settings.group else name.removeprefix(f"{settings.group}."))
    yield from work.letters(found)
    if found.parked is not None:
        yield fhir_server.waiting(found.parked)
    newest = max((end.last_ms / 1000 for end in reading.ends.values() if end.last_ms is not None), default=None)
    yield from machine.clock(reading.at, newest, machine.clock_is_kept())


def _brokers(settings: Settings, broker: int, timeout: float, in_memory: bool) -> Iterator[Finding]:
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    milliseconds = int(timeout * 1000)
    try:
        admin = KafkaAdminClient(
            **kafka_python(settings),
            client_id="fhirline-doctor",
            bootstrap_timeout_ms=milliseconds,
            request_timeout_ms=milliseconds,
        )
    except KafkaError as error:
        raise KafkaRequestFailed(f"{PREFIX}BOOTSTRAP: {settings.bootstrap}: {type(error).__name__}") from None
    try:
        yield cluster.kafka_version(tuple(admin.get_broker_version_data(broker).broker_version))
        reported = cluster.broker_settings_of(admin, broker)
    except KafkaError as error:
        yield ok("broker settings", f"hidden from this user ({type(error).__name__})")
    else:
        yield from cluster.broker_settings(settings, reported, in_memory)
    finally:
        admin.close()


def _privileges(settings: Settings) -> Iterator[Finding]:
    """Check the privileges of the operator's commands, where Kafka knows users."""
    if settings.security_protocol != "PLAINTEXT":
        yield cluster.privileges(missing(settings, grants("operator", settings)))


def _topics(settings: Settings, brokers: int, timeout: float, in_memory: bool) -> Iterator[Finding]:
    wanted = declared(settings)
    with Cluster(kafka_python(settings), timeout) as found:
        existing = found.read(wanted)
    yield from cluster.topics(compare(wanted, existing), settings)
    if existing:
        yield from cluster.durability(existing, brokers, in_memory)
