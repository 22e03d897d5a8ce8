"""Results of the runs: medians and spreads, as JSON and as a Markdown page. A run writes them, never a person."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOTES = Path(__file__).with_name("NOTES.md")
"""Written by hand, and included: where the time goes, what was tried and did not help."""

Runs = dict[str, dict[str, list[float]]]
"""Benchmark → figure → its runs, in the order of the repeats."""

CPU = "events per CPU-second"
ONE_AT_A_TIME = "deliver, one request at a time, of sequential POSTs"
SEVERAL_AT_A_TIME = "deliver, up to 8 requests at a time, of sequential POSTs"


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure to reach: of one benchmark, or its ratio to another's in the same repeat."""

    text: str
    benchmark: str
    figure: str
    least: float | None = None
    below: float | None = None
    to: str | None = None

    @property
    def wanted(self) -> str:
        return f"≥ {self.least:,g}" if self.least is not None else f"< {self.below:,g}"

    def runs(self, of: Runs) -> list[float]:
        """Empty where this run did not measure it."""
        own = of.get(self.benchmark, {}).get(self.figure, [])
        if self.to is None:
            return own
        return [one / other for one, other in zip(own, of.get(self.to, {}).get(self.figure, []), strict=False) if other]

    def met(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (self.below is None or value < self.below)


GOALS = (
    Goal("worker against idiomatic, events per CPU-second", "worker", CPU, least=20, to="idiomatic"),
    Goal("worker against the Faust floor, events per CPU-second", "worker", CPU, least=0.5, to="floor"),
    Goal("worker, events per CPU-second", "worker", CPU, least=3_000),
    Goal("worker, resources per CPU-second", "worker", "resources per CPU-second", least=30_000),
    Goal("latency at half rate, p99, ms", "latency", "p99 ms", below=150),
    Goal("gateway, webhooks per CPU-second", "gateway", "webhooks per CPU-second", least=2_000),
    Goal("delivery with one request at a time, of sequential POSTs", "delivery", ONE_AT_A_TIME, least=0.9),
    Goal("delivery with several requests at a time, of sequential POSTs", "delivery", SEVERAL_AT_A_TIME, least=1.0),
    Goal("tables, records per CPU-second", "tables", "tables, records per CPU-second", least=10_000),
    Goal("tables, peak memory, MiB", "tables", "tables, peak RSS MiB", below=500),
)

TITLES = {
    "core": "The pure core alone (no Kafka)",
    "validation": "Validation and serialization of a resource, µs",
    "worker": "`fhirline worker`",
    "idiomatic": "Idiomatic Faust and fhir.resources",
    "floor": "Floor: the worker sending prepared bytes",
    "librdkafka": "librdkafka alone sending prepared bytes",
    "gateway": "`fhirline gateway`, 64 connections, acks=all",
    "latency": "Latency raw → canonical at half of the worker's rate: raw handed to Kafka until Provenance is consumed",
    "workers-1": "1 worker, nothing pinned",
    "workers-2": "2 workers, nothing pinned",
    "workers-4": "4 workers, nothing pinned",
    "delivery": "`fhirline deliver` to a FHIR server, and plain sequential POSTs of the same Bundles",
    "encryption": "Encryption: worker and gateway with and without it, CPU of each",
    "console": "`fhirline console`: its first reading of all topics, and 20 requests of each page",
    "tables": "`fhirline tables` to PostgreSQL, 31 tables, and a plain loader of 9 of them",
}


def summary(runs: Runs, about: Mapping[str, Any]) -> dict[str, Any]:
    """The content of the JSON file."""
    return {
        **about,
        "goals": [
            {"goal": goal.text, "to reach": goal.wanted, **_figure(found), "met": goal.met(statistics.median(found))}
            for goal in GOALS
            if (found := goal.runs(runs))
        ],
        "benchmarks": {
            name: {figure: _figure(values) for figure, values in figures.items()} for name, figures in runs.items()
        },
    }


def _figure(values: Sequence[float]) -> dict[str, Any]:
    return {
        "median": _rounded(statistics.median(values)),
        "least": _rounded(min(values)),
        "greatest": _rounded(max(values)),
        "runs": [_rounded(value) for value in values],
    }


def _rounded(value: float) -> float:
    return round(value, 3 if abs(value) < 10 else 1)


def markdown(found: Mapping[str, Any]) -> str:
    """The page, from the content of the JSON file."""
    machine, settings = found["machine"], found["settings"]
    cores = f"{machine['cores']} cores"
    java = f"; Apache Kafka on {machine['java']}" if settings["broker"] == "apache" else "; embedded broker"
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench` on {found['date']} (commit {found['commit']}); `results.json` holds every run.",
        "",
        f"* Machine: {machine['cpu']}, {cores}, {machine['memory GiB']} GiB; {machine['system']}{java}; "
        f"load average at the start {machine['load at the start']}",
        f"* Versions: Python {machine['python']}, {', '.join(f'{n} {v}' for n, v in found['versions'].items())}",
        f"* {settings['repeat']} repeats, each with a fresh broker; {settings['events']} events "
        f"(idiomatic a tenth, floor twice, librdkafka four times as many); {settings['partitions']} partitions "
        f"({settings['scaling partitions']} for several workers); validation `spec`.",
        "* " + _pinning(machine),
        *_changed(settings["changed by the environment"]),
        "* Median (least to greatest of the repeats). CPU-seconds are user and system time of the measured process. "
        "Where a virtual machine's host took more than a few per cent of a core, latencies and rates say more of it "
        "than of fhirline.",
        "",
        "## Goals",
        "",
        "| goal | to reach | measured | |",
        "|---|---|---|---|",
    ]
    for goal in found["goals"]:
        lines.append(
            f"| {goal['goal']} | {goal['to reach']} | {_spread(goal)} | {'met' if goal['met'] else '**not met**'} |"
        )
    lines += ["", "## The mix", "", *_mix(found["mix"]), "", "## Figures", ""]
    for name, figures in found["benchmarks"].items():
        lines += [f"### {TITLES[name]}", "", "| figure | median (spread) |", "|---|---|"]
        lines += [f"| {figure} | {_spread(values)} |" for figure, values in figures.items()]
        lines.append("")
    lines += [
        "`worker`, `floor` and `librdkafka` wait for the acknowledgement of every record before they commit; "
        "`idiomatic` does what the documentation shows. What each does in detail stands at the top of its module.",
        "",
    ]
    if NOTES.exists():
        lines += [NOTES.read_text("utf-8").strip(), ""]
    return "\n".join(lines)


def _pinning(machine: Mapping[str, Any]) -> str:
    if not machine["pinned"]:
        return "Nothing could be pinned here: processes shared the cores, so read ratios only."
    return (
        "The measured process has one core; broker, producers, consumers and clients share the other. Several workers "
        f"share all {machine['cores']} cores with the broker and the consumer that counts, so that these figures say "
        "that work is divided, not what more cores would give. So do `fhirline deliver`, its broker and its server."
    )


def _changed(names: Sequence[str]) -> list[str]:
    return [f"* Not the defaults: the environment set {', '.join(names)}."] if names else []


def _mix(mix: Mapping[str, Any]) -> list[str]:
    records = ", ".join(f"{number} × {name}" for name, number in mix["records an event"].items())
    sizes = ", ".join(f"{name} {size}" for name, size in mix["bytes a record"].items())
    return [
        "40 % Altibbi status, 25 % Altibbi recommendation, 20 % MediQuo consultation, 10 % MediQuo report, "
        f"5 % Infermedica and Azodha; synthetic. A raw event has {mix['raw bytes']} bytes on average and becomes"
        f" {records} (bytes a record: {sizes}).",
    ]


def _spread(figure: Mapping[str, Any]) -> str:
    return f"{_shown(figure['median'])} ({_shown(figure['least'])} to {_shown(figure['greatest'])})"


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write(found: Mapping[str, Any], folder: Path) -> None:
    """Write ``results.json`` and ``RESULTS.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (folder / "RESULTS.md").write_text(markdown(found), "utf-8")
