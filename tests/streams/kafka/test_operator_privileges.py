"""The operator's commands against Apache Kafka with TLS, SCRAM and ACLs, as a user with exactly the operator's row."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from uuid import uuid4

import orjson
import pytest
from pydantic import SecretStr

from fhirline.config.errors import KafkaAccessError
from fhirline.streams.kafka.encryption.opener import Opener
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, TopicPartition
from fhirline.streams.operate.dead_letters.board import Board
from fhirline.streams.operate.status.reading import Reader
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step3_restore.state import StateCache
from fhirline.streams.step3_restore.topic_cache import RestoreFailed
from fhirline.topics.declared import (
    BUNDLE,
    ERASED,
    canonical_topic,
    dead_letter_topic,
    enriched_topic,
    raw_topic,
    state_topic,
)
from fhirline.topics.privileges import Grant
from tests.streams.operate.test_trace import event_of
from tests.support.erasure import RECEIVED_AT, SECRET
from tests.support.infermedica_server import CLIENT_ID, CLIENT_SECRET
from tests.support.kafka.users import GROUP, PARTITIONS, Cluster
from tests.support.load import Load
from tests.support.paths import SAMPLES
from tests.support.processes import Command, command
from tests.support.waiting import LIMIT

pytestmark = pytest.mark.long  # a secured cluster and every command

OPERATOR = "operator"


@dataclass
class Deployment:
    """A tenant's events as a worker has mapped them, and two dead letters, one of an enriched event."""

    cluster: Cluster
    load: Load
    letters: Sequence[ConsumerRecord]
    replays: str

    @property
    def environ(self) -> dict[str, str]:
        """The settings of a complete deployment, in which ``doctor`` finds no problem."""
        vendors = ("MEDIQUO_SECRET", "INFERMEDICA_TOKEN", "ALTIBBI_SECRET", "AZODHA_SECRET")
        return self.cluster.environ(
            OPERATOR,
            FHIRLINE_ERASURE_KEY=SECRET,
            FHIRLINE_REPLAY_DIR=self.replays,
            FHIRLINE_VALIDATION="off",  # half of a process's start; validation has its own tests
            FHIRLINE_GATEWAY_PORT="0",
            FHIRLINE_INFERMEDICA_URL="https://infermedica.example",
            FHIRLINE_INFERMEDICA_CLIENT_ID=CLIENT_ID,
            FHIRLINE_INFERMEDICA_CLIENT_SECRET=CLIENT_SECRET,
            **{f"FHIRLINE_{vendor}": uuid4().hex for vendor in vendors},
        )

    @property
    def event(self) -> str:
        """Return an event that was mapped."""
        return event_of(next(raw for raw in self.load.raws if raw.vendor == "mediquo"))

    def forget(self) -> tuple[str, ...]:
        patient = self.load.patient("mediquo")
        named = ("--vendor", patient.vendor, "--tenant", patient.tenant, "--patient", patient.key)
        return "forget", *named, "--yes", "--reason", "test"

    def written(self, *topics: str) -> int:
        with Scanner(self.cluster.settings) as scanner:
            return sum(1 for _ in scanner.read(dict.fromkeys(scanner.topic_partitions(topics))))

    def ran(self, *commands: Sequence[str]) -> list[Command]:
        """Run commands in parallel and wait for all of them."""
        with ExitStack() as stack:
            running = [stack.enter_context(command(*item, environ=self.environ)) for item in commands]
            for process in running:
                process.wait(LIMIT)
        return running

    def worked(self, *commands: Sequence[str]) -> list[str]:
        """Return the output of commands that all exit with 0."""
        ended = self.ran(*commands)
        for process in ended:
            assert process.wait() == 0, process.output
        return [item.output for item in ended]


@pytest.fixture(scope="module")
def deployment(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    load = Load(
        cluster.settings.model_copy(update={"erasure_key": SecretStr(SECRET), "validation": "off"}),
        f"t-{uuid4().hex[:12]}",
    )
    load.send(
        raw_record("mediquo", load.tenant, (SAMPLES / f"mediquo-{name}.json").read_bytes(), RECEIVED_AT, None, 64)
        for name in ("consultation", "report")
    )
    nobody = {"type": "status_update", "user_id": "", "id": 1}, {"event_type": "survey_finished", "content": {}}
    altibbi, survey = (
        raw_record(vendor, f"{load.tenant}-refused", orjson.dumps(body), RECEIVED_AT, None, 64)
        for vendor, body in zip(("altibbi", "infermedica"), nobody, strict=True)
    )
    refused = load.send([altibbi, replace(survey, topic=enriched_topic("infermedica"))])
    return Deployment(cluster, load, refused, str(tmp_path_factory.mktemp("replays")))


def test_a_missing_privilege_is_named(deployment: Deployment) -> None:
    """Reading commands need no privilege to write. Writing commands check theirs before they begin."""
    lacking = [
        Grant("Group", GROUP, "Describe"),
        Grant("Group", f"{GROUP}.state", "Describe"),
        Grant("Topic", dead_letter_topic("altibbi"), "Read"),
        Grant("Topic", state_topic("azodha"), "Read"),
        Grant("Topic", canonical_topic("Patient"), "Write"),
    ]
    group, state, letters, azodha, patient = (
        f"{grant.operation} on {grant.resource.lower()} {grant.name}" for grant in lacking
    )
    cluster = deployment.cluster
    settings = cluster.security.settings(cluster.kafka.secure_bootstrap, OPERATOR, group=GROUP, partitions=PARTITIONS)
    looks: list[tuple[Callable[[], object], str]] = [
        (lambda: Reader(settings, ("mediquo",), (GROUP,), LIMIT).__enter__().read(), GROUP),
        (lambda: Board(settings, ["altibbi"]).read(), letters),
        (lambda: [*Scanner(settings).read({TopicPartition(state_topic("azodha"), 0): None})], azodha),
        (lambda: StateCache(settings, state_topic("mediquo"), opener=Opener(settings)).restore([0]), state),
    ]
    topics = (raw_topic("altibbi"), ERASED, BUNDLE)
    before = deployment.written(*topics)
    with cluster.without(OPERATOR, *lacking):
        for look, named in looks:
            with pytest.raises((KafkaAccessError, RestoreFailed)) as told:
                look()
            assert named in str(told.value)
        for refused in deployment.ran(
            ("dead-letters", "redrive", "--yes", "--id", str(deployment.letters[0].position)),
            ("replay", "--publish", "--jobs", "1"),
            deployment.forget(),
        ):
            assert refused.wait() == 2, refused.output
            assert f"user {OPERATOR} lacks privileges" in refused.output
            for named in (group, state, letters, azodha, patient):
                assert named in refused.output, refused.output
        (compared,) = deployment.ran(("replay", "--tenant", deployment.load.tenant, "--jobs", "1"))
        assert compared.wait() == 2, "1 would say that something differs: " + compared.output
        assert f"user {OPERATOR} lacks privileges" in compared.output
    assert deployment.written(*topics) == before


def test_every_operator_command_works_with_exactly_its_privileges(deployment: Deployment) -> None:
    refused = deployment.letters
    of_tenant = ("--tenant", deployment.load.tenant, "--jobs", "1")
    status, doctor, show, trace, diff = deployment.worked(
        ("status", "--once", "--every", "0.2"),
        ("doctor",),
        ("dead-letters", "show", str(refused[0].position), "--reveal", "--reason", "a test"),
        ("trace", deployment.event),
        ("replay", *of_tenant),
    )
    assert re.search(r"altibbi\traw.altibbi\tsecured\t[1-9]", status), status
    assert "this Kafka user has all privileges of the operator's commands" in doctor
    assert '"status_update"' in show
    assert "fhir.r4.bundle/" in trace
    assert "2 events mapped" in diff

    topics = (canonical_topic("Patient"), raw_topic("altibbi"), enriched_topic("infermedica"))
    before = Counter({topic: deployment.written(topic) for topic in topics})
    deployment.worked(("replay", "--publish", "--all", *of_tenant))
    deployment.worked(
        ("dead-letters", "redrive", "--yes", "--wait", "0", *(f"--id={item.position}" for item in refused)),
    )
    after = Counter({topic: deployment.written(topic) for topic in topics})
    assert after - before == dict.fromkeys(topics, 1)
    listed, forgotten = deployment.worked(("dead-letters", "list", "--each"), (*deployment.forget(), "--settle", "0"))
    assert [f"{item.position}\tredriven" in listed for item in refused] == [True, True]
    assert "searched again    1 time; found at last: 0" in forgotten
    assert deployment.written(ERASED) > 0
