"""A process that is paused within a delivery: what its producer still holds must not be sent afterwards.

When the process continues, librdkafka's threads run before any check of ours, and another worker may have the
partitions.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from fhirline.streams.kafka.clients import kafka_python
from fhirline.streams.kafka.records import TopicPartition
from fhirline.topics.cluster import Cluster
from fhirline.topics.declared import Topic
from tests.crash.comparison import ends
from tests.support.kafka.brokers import RunningBroker
from tests.support.waiting import LIMIT

SESSION = 6.0
RECORDS = 30_000
SIZE = 10_000
ON_THEIR_WAY = 5 * 1_200_000 // SIZE
"""Records in requests that were begun before the pause: at most five requests of a megabyte each."""

DELIVER = f"""
import random
from fhirline.config.settings import load_settings
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.step2_consume.fencing import Fence
from fhirline.streams.step5_publish.publish import RecordPublisher, PublishFailed
settings = load_settings()
value = random.Random(1).randbytes({SIZE})
records = (ProducerRecord("paused", b"%d" % number, value) for number in range({RECORDS}))
fence = Fence(settings.session_timeout)
fence.check()  # and no ticker, which might end the process before its producer shows what it does
try:
    RecordPublisher(settings).publish(fence.passing(records))
except PublishFailed:
    raise SystemExit(70)
"""


def test_nothing_is_sent_after_a_pause(apache_kafka: RunningBroker, show: Callable[..., None]) -> None:
    settings = apache_kafka.settings()
    with Cluster(kafka_python(settings), timeout=LIMIT) as cluster:
        topic = Topic("paused", 1, 1, "delete", 1_048_576, "key", "for a test")
        assert cluster.apply(cluster.plan([topic])).complete

    def written() -> int:
        return ends(settings, ["paused"])[TopicPartition("paused", 0)]

    own = {"FHIRLINE_BOOTSTRAP": apache_kafka.bootstrap, "FHIRLINE_SESSION_TIMEOUT": f"{SESSION:g}"}
    process = subprocess.Popen([sys.executable, "-c", DELIVER], env={**os.environ, **own})
    try:
        until = time.monotonic() + LIMIT
        while not written():
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(SESSION)  # the pause itself: it has to last a session
        before = written()
        os.kill(process.pid, signal.SIGCONT)
        code = process.wait(LIMIT)
    finally:
        process.kill()
        process.wait()
    after = written()
    show(f"{before} of {RECORDS} records written before a pause of {SESSION:g} s, {after - before} after it")
    assert before + ON_THEIR_WAY < RECORDS, "the pause came too late to prove anything"
    assert code == 70
    assert after - before <= ON_THEIR_WAY
