"""Checks of the cluster: whether it can be reached, what it is, and whether its topics keep what they are given."""

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fhirline.config.settings import PREFIX, Settings
from fhirline.streams.operate.doctor.finding import Finding, Level, ok, problem, several, warning
from fhirline.topics.plan import Action, Difference, Existing, Plan
from fhirline.topics.privileges import Grant

SECONDS = 3.0
OLDEST = (2, 5)
"""Before it, a broker that has forgotten an idempotent producer refuses it for good (KIP-360)."""

Address = tuple[str, int]


def bootstrap(settings: Settings) -> Iterator[Finding]:
    """Each bootstrap server: its name resolves, and something listens there."""
    reached = 0
    findings: list[Finding] = []
    for each in settings.bootstrap.split(","):
        address = _address(each.strip())
        if address is None:
            findings.append(
                problem("bootstrap", f"{PREFIX}BOOTSTRAP: {each.strip()!r} is no host:port", "write host:port[,...]")
            )
        elif failure := unreachable("bootstrap", address):
            findings.append(failure)
        else:
            reached += 1
            findings.append(ok("bootstrap", f"{each.strip()}: something listens"))
    # One of several is enough to begin with; that none is left to fall back on is worth a word, not more.
    for finding in findings:
        yield replace(finding, level=Level.WARNING) if finding.level is Level.PROBLEM and reached else finding


def unreachable(check: str, address: Address) -> Finding | None:
    """Why no connection comes about, in plain words; None where one does."""
    host, port = address
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return problem(check, f"{host}: no such host name", "mend the name, or this machine's DNS or hosts file")
    try:
        socket.create_connection(address, timeout=SECONDS).close()
    except TimeoutError:
        return problem(check, f"{host}:{port}: no answer in {SECONDS:g} s", "a firewall may be between; open the port")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return problem(check, f"{host}:{port}: {reason}", "start the broker, or mend the port")
    return None


def advertised(brokers: Mapping[int, Address], asked: Iterable[str]) -> Iterator[Finding]:
    """Brokers tell clients where each of them is to be found: there, and not where they were asked, all goes on."""
    bad = [each for each in brokers.items() if unreachable("brokers", each[1])]
    for id, (host, port) in bad:
        yield problem(
            "brokers",
            f"broker {id} says that it is at {host}:{port}, where it cannot be reached from here",
            "mend advertised.listeners of that broker",
        )
    if not bad:
        where = several([f"{host}:{port}" for host, port in brokers.values()])
        yield ok("brokers", f"{len(brokers)} behind {','.join(asked)}, each reachable: {where}")


def kafka_version(found: tuple[int, ...]) -> Finding:
    """The oldest release that has all that the broker offers, by the versions of its requests."""
    text = ".".join(map(str, found))
    if found < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return problem("version", f"the brokers are as Kafka {text}", f"upgrade them to {oldest} or later")
    return ok("version", f"the brokers are as Kafka {text}")


def privileges(lacking: Sequence[Grant]) -> Finding:
    """What the operator's commands need and this user has not. Of topics that do not exist nothing is known."""
    if lacking:
        shown = several([f"{each.operation} on {each.resource.lower()} {each.name}" for each in lacking])
        return problem("privileges", f"this Kafka user lacks {shown}", "grant what docs/security.md has for operator")
    return ok("privileges", "this Kafka user has all that the operator's commands need")


def topics(plan: Plan, settings: Settings) -> Iterator[Finding]:
    """What of the topics is otherwise than declared. `fhirline topics plan` has every line of it.

    A cluster with ACLs tells a user only of topics that it may Describe: to it, the others are not there.
    """
    apply = "run `fhirline topics plan`, then `fhirline topics apply`"
    missing = [each for each in plan.differences if each.what == "topic"]
    if missing:
        unseen = "" if settings.security_protocol == "PLAINTEXT" else ", or not to be seen by this Kafka user"
        yield problem("topics", f"missing{unseen}: {_names(missing)}", apply)
    for what in dict.fromkeys(each.what for each in plan.differences if each.what != "topic"):
        found = [each for each in plan.differences if each.what == what]
        first = found[0]
        text = f"{what} is {first.actual}, declared {first.declared}: {_names(found)}"
        mend = first.reason if first.action is Action.REFUSE else apply
        yield (problem if what in HARMFUL else warning)("topics", text, mend)
    if not plan.differences:
        unread = len(plan.unreported)
        more = f"; of {unread} this user is not told every setting (DescribeConfigs)" if unread else ""
        yield ok("topics", f"as declared{more}")


HARMFUL = {"partitions", "cleanup.policy", "max.message.bytes"}
"""With these otherwise, records land elsewhere, go away, or are refused."""


def durability(existing: Mapping[str, Existing], brokers: int) -> Iterator[Finding]:
    """Whether an event that was acknowledged survives the loss of a broker."""
    if brokers == 1:
        yield ok("durability", "one broker: every event is on its disk alone; back it up, or run three")
        return
    if single := [name for name, each in existing.items() if each.replication_factor == 1]:
        yield warning(
            "durability",
            f"one replica on {brokers} brokers: {several(single)}: a broker lost is events lost",
            f"add replicas (kafka-reassign-partitions), and set {PREFIX}REPLICATION_FACTOR",
        )
    replicated = {name: each for name, each in existing.items() if each.replication_factor > 1}
    insync = {
        name: int(each.config["min.insync.replicas"])
        for name, each in replicated.items()
        if "min.insync.replicas" in each.config
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
            f"min.insync.replicas is no less than the replicas: {several(stuck)}: with a broker away, all stops",
            "more replicas, or a smaller min.insync.replicas",
        )
    if unclean := [n for n, e in existing.items() if e.config.get("unclean.leader.election.enable") == "true"]:
        yield warning(
            "durability",
            f"unclean.leader.election.enable: {several(unclean)}: a replica that lacks events may take over",
            "set unclean.leader.election.enable=false",
        )
    if untold := sorted(replicated.keys() - insync.keys()):
        yield ok("durability", f"this user is not told min.insync.replicas (DescribeConfigs) of {several(untold)}")
    elif not single and not low and not stuck and not unclean:
        yield ok("durability", f"acknowledged events survive the loss of a broker, on {brokers} brokers")


def broker_settings(settings: Settings, told: Mapping[str, str]) -> Iterator[Finding]:
    """Settings of a broker. Tansu tells none, and Apache Kafka none to who has no DescribeConfigs on the cluster."""
    if not told:
        yield ok("broker settings", "this broker tells this user none (DescribeConfigs on the cluster)")
        return
    if told.get("auto.create.topics.enable") == "true":
        yield warning(
            "broker settings",
            "auto.create.topics.enable: a mistyped name makes a topic, with as many partitions as it likes",
            "set auto.create.topics.enable=false on the brokers",
        )
    largest = told.get("socket.request.max.bytes")
    if largest is not None and int(largest) <= settings.message_max_bytes:
        yield problem(
            "broker settings",
            f"socket.request.max.bytes is {largest}, {PREFIX}MESSAGE_MAX_BYTES {settings.message_max_bytes}",
            "a larger one on the brokers, or a smaller one here: such a record's sender is cut off",
        )
    else:
        own = told.get("message.max.bytes", "not told")
        yield ok(
            "broker settings",
            f"records of {settings.message_max_bytes} bytes fit (message.max.bytes is {own}; topics have their own)",
        )


def broker_settings_of(admin: Any, broker: int) -> dict[str, str]:
    """Every setting that a broker tells. Raises KafkaError."""
    from kafka.admin import ConfigResource, ConfigResourceType

    asked = [ConfigResource(ConfigResourceType.BROKER, str(broker))]
    answered = admin.describe_configs(asked, config_filter="all").get("broker", {})
    return {
        name: each["value"]
        for entries in answered.values()
        for name, each in entries.items()
        if each["value"] is not None
    }


def _address(text: str) -> Address | None:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        return None
    return host.strip("[]"), int(port)


def _names(differences: Iterable[Difference]) -> str:
    return several([each.topic.name for each in differences])
