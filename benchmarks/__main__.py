"""``make bench``: every benchmark side by side in one run, repeated, into ``results.json`` and ``RESULTS.md``.

    python -m benchmarks [--repeat N] [--events N] [--only NAME]... [--broker apache|embedded] [--output FOLDER]

Each repeat goes once through all benchmarks, so that whatever else the machine does hits all alike. On an idle machine
it takes about ten minutes.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from benchmarks import core, machine, validation
from benchmarks.broker import Kind
from benchmarks.console import console
from benchmarks.delivery import delivery
from benchmarks.encryption import encryption
from benchmarks.gateway import gateway
from benchmarks.latency import latency
from benchmarks.program import BenchmarkFailed
from benchmarks.results import CPU, Runs, summary, write
from benchmarks.tables import tables
from benchmarks.throughput import WAYS, WORKER, Figures, scaling, throughput
from fhirline.config.exit_codes import DONE, INCOMPLETE, INTERRUPTED, UNUSABLE
from tests.support.ehr.build import Unavailable as NoFhirServer
from tests.support.kafka.jars import Unavailable
from tests.support.postgres import Unavailable as NoPostgres

WORKERS = (1, 2, 4)
NAMES = (
    "core",
    "validation",
    *(way.name for way in WAYS),
    "gateway",
    "latency",
    "workers",
    "delivery",
    "tables",
    "encryption",
    "console",
)
TAKEN = "taken by the host, share of a core"
APART = Path(__file__).parents[1] / ".cache" / "benchmarks"


def asked(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=3, help="times that each is measured (3)")
    parser.add_argument("--events", type=int, default=20_000, help="events of the worker's benchmark (20000)")
    parser.add_argument("--seconds", type=float, default=20, help="length of the latency benchmark (20)")
    parser.add_argument("--partitions", type=int, default=6, help="partitions of a topic (6)")
    parser.add_argument("--scaling-partitions", type=int, default=8, help="partitions for several workers (8)")
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS, help="numbers of workers (1 2 4)")
    parser.add_argument("--only", action="append", choices=NAMES, metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--broker", choices=("apache", "embedded"), default="apache", help="apache")
    parser.add_argument("--output", type=Path, help="folder of the results; default: this one if all are run on Apache")
    options = parser.parse_args(arguments)
    if options.output is None:  # a part of the benchmarks must not replace the results of all
        options.output = APART if options.only or options.broker == "embedded" else Path(__file__).parent
    if options.output.exists() and not options.output.is_dir():
        parser.error(f"--output {options.output}: is a file; name a folder")
    return options


class Run:
    """All repeats of what was asked for."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.kind: Kind = options.broker
        self.runs: Runs = {}
        self._begun = time.monotonic()
        self._load = os.getloadavg()[0]
        self._commit = commit()  # before the results are written, which would make it a changed one

    def go(self) -> dict[str, Any]:
        """Measure, and write the results after each repeat: a long run may be cut short."""
        found: dict[str, Any] = {}
        for repeat in range(self.options.repeat):
            for name, measured in self._benchmarks():
                self._say(f"repeat {repeat + 1} of {self.options.repeat}: {name} ...")
                taken, begun = machine.taken(), time.monotonic()
                figures = measured()
                figures[TAKEN] = (machine.taken() - taken) / (time.monotonic() - begun)
                for figure, value in figures.items():
                    self.runs.setdefault(name, {}).setdefault(figure, []).append(value)
                self._say(f"    {', '.join(f'{figure} {value:,.1f}' for figure, value in figures.items())}")
            found = summary(self.runs, self._about(repeat + 1))
            write(found, self.options.output)
        return found

    def _benchmarks(self) -> list[tuple[str, Callable[[], Figures]]]:
        """Return the benchmarks with their names, in order.

        The rate of `latency` is known only when the worker has been measured.
        """
        options, kind = self.options, self.kind
        found: list[tuple[str, Callable[[], Figures]]] = [("core", self._core), ("validation", self._validation)]
        found += [(way.name, partial(throughput, way, kind, options.events, options.partitions)) for way in WAYS]
        found.append(("gateway", partial(gateway, kind, options.events, options.partitions)))
        found.append(("latency", self._latency))
        found += [
            (f"workers-{number}", partial(scaling, number, kind, options.events, options.scaling_partitions))
            for number in options.workers
        ]
        found.append(("delivery", partial(delivery, kind, options.events, options.partitions)))
        found.append(("tables", partial(tables, kind, options.events, options.partitions)))
        found.append(("encryption", partial(encryption, kind, options.events, options.partitions)))
        found.append(("console", partial(console, kind, options.events, options.partitions)))
        return [item for item in found if not options.only or item[0].partition("-")[0] in options.only]

    def _core(self) -> Figures:
        measured = core.measure(max(100, self.options.events // 4), 1)
        return {f"{name}, {CPU}": item["median"] for name, item in measured.items()}

    def _validation(self) -> Figures:
        measured = validation.measure(3)
        ratios = {f"{name}, times faster": value for name, value in measured["ratios"].items()}
        return {**measured["microseconds"], **ratios}

    def _latency(self) -> Figures:
        """At half of what the worker sustained in this very run."""
        known = self.runs.get(WORKER.name, {}).get("events/s")
        if not known:
            self._say("    (the worker's rate first)")
            known = [throughput(WORKER, self.kind, self.options.events, self.options.partitions)["events/s"]]
        return latency(statistics.median(known) / 2, self.options.seconds, self.kind, self.options.partitions)

    def _about(self, repeats: int) -> dict[str, Any]:
        options = self.options
        return {
            "date": datetime.now(UTC).date().isoformat(),
            "commit": self._commit,
            "machine": {**machine.described(), "load at the start": round(self._load, 2)},
            "versions": machine.versions(),
            "settings": {
                "broker": options.broker,
                "repeat": repeats,
                "events": options.events,
                "partitions": options.partitions,
                "scaling partitions": options.scaling_partitions,
                "changed by the environment": sorted(item for item in os.environ if item.startswith("FHIRLINE_")),
            },
            "mix": core.shape(core.raws(min(options.events, 2_000))),
        }

    def _say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._begun:6.0f} s] {text}", flush=True)


def commit() -> str:
    """The commit that was measured, with a mark where files differ from it."""
    root = Path(__file__).parents[1]
    command = ("git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*")
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def main(arguments: list[str] | None = None) -> int:
    options = asked(arguments)
    signal.signal(signal.SIGTERM, _interrupted)  # so that every process is ended, as by Ctrl-C
    with machine.on(machine.OTHERS):
        try:
            found = Run(options).go()
        except Unavailable as error:
            print(f"no Apache Kafka here: {error}; --broker embedded measures on the embedded broker", file=sys.stderr)
            return UNUSABLE
        except NoFhirServer as error:
            print(f"no FHIR server here: {error}; --only leaves `delivery` out", file=sys.stderr)
            return UNUSABLE
        except NoPostgres as error:
            print(f"no PostgreSQL here: {error}; --only leaves `tables` out", file=sys.stderr)
            return UNUSABLE
        except BenchmarkFailed as error:
            print(error, file=sys.stderr)
            return INCOMPLETE
        except KeyboardInterrupt:
            print("interrupted; the repeats that are done are written", file=sys.stderr)
            return INTERRUPTED
    for goal in found["goals"]:
        print(f"{'met    ' if goal['met'] else 'NOT MET'} {goal['goal']}: {goal['median']}", flush=True)
    print(f"written: {options.output / 'RESULTS.md'}, {options.output / 'results.json'}")
    return DONE


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
