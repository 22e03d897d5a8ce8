"""Checks of the cluster: whether it can be reached, its version, its topics and their durability."""

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fhirline.config.settings import PREFIX, Settings
from fhirline.streams.kafka.embedded_quirks import LIMITS, is_embedded
from fhirline.streams.operate.doctor.finding import Finding, Level, ok, problem, several, warning
from fhirline.topics.plan import Action, Difference, Existing, Plan
from fhirline.topics.privileges import Grant

SECONDS = 3.0
OLDEST = (2, 5)
"""Earlier brokers refuse an idempotent producer permanently after they have forgotten it (KIP-360)."""

Address = tuple[str, int]


def bootstrap(settings: Settings) -> Iterator[Finding]:
    """Check that each bootstrap server's name resolves, and that something listens there."""
    reached = 0
    findings: list[Finding] = []
    for server in settings.bootstrap.split(","):
        address = _address(server.strip())
        if address is None:
            findings.append(
                problem("bootstrap", f"{PREFIX}BOOTSTRAP: {server.strip()!r} is no host:port", "write host:port[,...]")
            )
        elif failure := unreachable("bootstrap", address):
            findings.append(failure)
        else:
            reached += 1
            findings.append(ok("bootstrap", f"{server.strip()}: something listens"))
    # One reachable server is enough to start with, so the others are warnings.
    for finding in findings:
        yield replace(finding, level=Level.WARNING) if finding.level is Level.PROBLEM and reached else finding


def unreachable(check: str, address: Address) -> Finding | None:
    """Explain why no connection is possible; None where one is."""
    host, port = address
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return problem(check, f"{host}: no such host name", "correct the name, or this machine's DNS or hosts file")
    try:
        socket.create_connection(address, timeout=SECONDS).close()
    except TimeoutError:
        return problem(check, f"{host}:{port}: no answer in {SECONDS:g} s", "open the port; a firewall may block it")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return problem(check, f"{host}:{port}: {reason}", "start the broker, or correct the port")
    return None


def advertised(brokers: Mapping[int, Address], asked: Iterable[str]) -> Iterator[Finding]:
    """Check the addresses that the brokers advertise, to which clients connect after the bootstrap."""
    bad = [broker for broker in brokers.items() if unreachable("brokers", broker[1])]
    for id, (host, port) in bad:
        yield problem(
            "brokers",
            f"broker {id} advertises {host}:{port}, which cannot be reached from here",
            "correct advertised.listeners of that broker",
        )
    if not bad:
        where = several([f"{host}:{port}" for host, port in brokers.values()])
        yield ok("brokers", f"{len(brokers)} behind {','.join(asked)}, each reachable: {where}")


def embedded(cluster_id: str | None) -> Iterator[Finding]:
    """Report what the embedded broker cannot do, where it is one."""
    if is_embedded(cluster_id):
        yield warning(
            "embedded broker",
            f"for trying and testing only: {'; '.join(LIMITS)}",
            "run Apache Kafka for anything that has to be kept (docs/deployment.md)",
        )


def kafka_version(found: tuple[int, ...]) -> Finding:
    """Check the brokers' release, which is derived from the request versions that they offer."""
    text = ".".join(map(str, found))
    if found < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return problem("version", f"the brokers are compatible with Kafka {text}", f"upgrade them to {oldest} or later")
    return ok("version", f"the brokers are compatible with Kafka {text}")


def privileges(lacking: Sequence[Grant]) -> Finding:
    """Check the privileges that the operator's commands need. Privileges of missing topics are unknown."""
    if lacking:
        shown = several([f"{item.operation} on {item.resource.lower()} {item.name}" for item in lacking])
        return problem(
            "privileges", f"this Kafka user lacks {shown}", "grant the privileges of operator in docs/security.md"
        )
    return ok("privileges", "this Kafka user has all privileges of the operator's commands")


def topics(plan: Plan, settings: Settings) -> Iterator[Finding]:
    """Compare the topics with the declaration. `fhirline topics plan` has the details.

    A cluster with ACLs shows a user only the topics that it may Describe. The others seem to be missing.
    """
    apply = "run `fhirline topics plan`, then `fhirline topics apply`"
    missing = [difference for difference in plan.differences if difference.what == "topic"]
    if missing:
        unseen = "" if settings.security_protocol == "PLAINTEXT" else ", or not visible to this Kafka user"
        yield problem("topics", f"missing{unseen}: {_names(missing)}", apply)
    for what in dict.fromkeys(difference.what for difference in plan.differences if difference.what != "topic"):
        found = [difference for difference in plan.differences if difference.what == what]
        first = found[0]
        text = f"{what} is {first.actual}, declared {first.declared}: {_names(found)}"
        fix = first.reason if first.action is Action.REFUSE else apply
        yield (problem if what in HARMFUL else warning)("topics", text, fix)
    if not plan.differences:
        hidden = f"; some settings of {len(plan.unreported)} are hidden from this user (DescribeConfigs)"
        yield ok("topics", f"as declared{hidden if plan.unreported else ''}")


HARMFUL = {"partitions", "cleanup.policy", "max.message.bytes"}
"""Settings whose difference sends records to other partitions, deletes them, or has them refused."""


def durability(existing: Mapping[str, Existing], brokers: int, in_memory: bool = False) -> Iterator[Finding]:
    """Check that an acknowledged event survives the loss of a broker. ``in_memory``: the broker has no disk."""
    if in_memory:
        yield warning("durability", "the broker keeps every event in memory only", "run Apache Kafka to keep events")
        return
    if brokers == 1:
        yield ok("durability", "one broker: every event is on its disk only; back it up, or run three")
        return
    if single := [name for name, item in existing.items() if item.replication_factor == 1]:
        yield warning(
            "durability",
            f"one replica on {brokers} brokers: {several(single)}: losing a broker loses events",
            f"add replicas (kafka-reassign-partitions), and set {PREFIX}REPLICATION_FACTOR",
        )
    replicated = {name: item for name, item in existing.items() if item.replication_factor > 1}
    insync = {
        name: int(item.config["min.insync.replicas"])
        for name, item in replicated.items()
        if "min.insync.replicas" in item.config
    }
    if low := [name for name, least in insync.items() if least < 2]:
        yield warning(
            "durability",
            f"min.insync.replicas is 1: {several(low)}: acks=all may mean one broker",
            "set min.insync.replicas=2 on the cluster",
        )
    if stuck := [name for name, least in insync.items() if least >= replicated[name].replication_factor]:
        yield warning(
            "durability",
            f"min.insync.replicas is not below the replicas: {several(stuck)}: without one broker, writing stops",
            "add replicas, or lower min.insync.replicas",
        )
    if unclean := [n for n, e in existing.items() if e.config.get("unclean.leader.election.enable") == "true"]:
        yield warning(
            "durability",
            f"unclean.leader.election.enable: {several(unclean)}: a replica without the latest events may lead",
            "set unclean.leader.election.enable=false",
        )
    if hidden := sorted(replicated.keys() - insync.keys()):
        yield ok("durability", f"min.insync.replicas of {several(hidden)} is hidden from this user (DescribeConfigs)")
    elif not single and not low and not stuck and not unclean:
        yield ok("durability", f"acknowledged events survive the loss of a broker, on {brokers} brokers")


def broker_settings(settings: Settings, reported: Mapping[str, str], in_memory: bool = False) -> Iterator[Finding]:
    """Check a broker's settings. Apache Kafka requires DescribeConfigs on the cluster.

    ``in_memory``: it is the embedded broker, which reports none.
    """
    if not reported and in_memory:
        yield ok("broker settings", "the embedded broker reports none, so they are not checked")
        return
    if not reported:
        yield ok("broker settings", "hidden from this user (DescribeConfigs on the cluster)")
        return
    if reported.get("auto.create.topics.enable") == "true":
        yield warning(
            "broker settings",
            "auto.create.topics.enable: a mistyped name creates a topic with the broker's number of partitions",
            "set auto.create.topics.enable=false on the brokers",
        )
    largest = reported.get("socket.request.max.bytes")
    if largest is not None and int(largest) <= settings.message_max_bytes:
        yield problem(
            "broker settings",
            f"socket.request.max.bytes is {largest}, {PREFIX}MESSAGE_MAX_BYTES {settings.message_max_bytes}",
            "raise it on the brokers, or lower the setting here: the sender of such a record is disconnected",
        )
    else:
        own = reported.get("message.max.bytes", "unknown")
        yield ok(
            "broker settings",
            f"records of {settings.message_max_bytes} bytes fit (message.max.bytes is {own}; topics override it)",
        )


def broker_settings_of(admin: Any, broker: int) -> dict[str, str]:
    """Read every setting that a broker reports. Raises KafkaError."""
    from kafka.admin import ConfigResource, ConfigResourceType

    asked = [ConfigResource(ConfigResourceType.BROKER, str(broker))]
    answered = admin.describe_configs(asked, config_filter="all").get("broker", {})
    return {
        name: entry["value"]
        for entries in answered.values()
        for name, entry in entries.items()
        if entry["value"] is not None
    }


def _address(text: str) -> Address | None:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        return None
    return host.strip("[]"), int(port)


def _names(differences: Iterable[Difference]) -> str:
    return several([difference.topic.name for difference in differences])
