"""With JSON as the format, every line of a process is JSON, whoever writes it, and quotes no payload."""

import subprocess
import sys

import orjson

PROCESS = """
import asyncio, gc, logging, threading, warnings
from fhirline.config.settings import Settings
from fhirline.streams.observe.logs import configure_logging, log_loop_error

configure_logging(Settings(log_format="json", _env_file=None))

def raising(*_):
    raise ValueError("zq-payload-qz")

thread = threading.Thread(target=raising, name="reader")
thread.start()
thread.join()

class Finalized:
    def __del__(self):
        raising()

Finalized()
gc.collect()
warnings.warn("a library's warning", stacklevel=1)
for name in ("librdkafka", "aiokafka.conn", "kafka.client", "faust", "mode"):
    logging.getLogger(name).error("line of %s", name)

async def forgetting():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_loop_error)
    loop.call_soon(raising)
    await asyncio.sleep(0)
    await asyncio.sleep(0)

asyncio.run(forgetting())
raising()
"""


def test_every_line_is_json_whoever_writes_it() -> None:
    ended = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    lines = [orjson.loads(line) for line in ended.stderr.splitlines()]
    events = [line["event"] for line in lines]
    assert [event for event in events if event in ("thread crashed", "exception ignored", "crashed")] == [
        "thread crashed",
        "exception ignored",
        "crashed",
    ]
    assert "event loop error" in events
    assert any("a library's warning" in event for event in events)
    assert {line.get("logger") for line in lines} >= {"librdkafka", "aiokafka.conn", "kafka.client", "faust", "mode"}
    raised = [line for line in lines if "exception" in line]
    assert len(raised) == 4
    assert all("ValueError at" in line["exception"][0] for line in raised)
    assert "zq-payload-qz" not in ended.stderr
    assert ended.stdout == ""
