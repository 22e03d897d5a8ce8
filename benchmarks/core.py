"""Events per CPU-second of the pure core alone, over the mix: no Kafka, one thread. Prints JSON.

    python -m benchmarks.core [--events N] [--repeat N] [--validation off|spec] [--profile [LINES]] [--kind VENDOR/KIND]

Three stretches of the way, each with and without validation: ``normalize`` is a raw value opened, mapped, validated
and serialized, and its state kept (`Normalizer`); ``map_event`` adds the records with keys, headers and partitions
(`step4_normalize.map_event`) and the state's encoding, which is all that a worker does for an event but Kafka.
``--profile`` runs ``map_event`` once under cProfile and prints where the time goes. cProfile makes small functions
look dearer than they are, so trust the figures, not the shares.
"""

import argparse
import cProfile
import json
import pstats
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from benchmarks.mix import SHARES, events, mix
from fhirline.config.settings import Settings
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.normalize import InMemoryState, Normalizer
from fhirline.streams.kafka.records import ConsumerRecord, TopicPartition
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step3_restore.state import PartitionState
from fhirline.streams.step4_normalize.map_event import map_event
from fhirline.streams.step4_normalize.raw_event import envelope_of
from fhirline.topics.declared import BUNDLE, OUTCOME, state_topic
from fhirline.topics.partition import partition_for

PARTITIONS = 6
VALIDATIONS = ("off", "spec")


def raws(count: int, kind: str | None = None) -> list[ConsumerRecord]:
    """The mix as a worker reads it; ``kind`` as in ``altibbi/status`` keeps one kind only, of ``count`` events."""
    if kind is None:
        made = mix(count)
    else:
        share = next(share for (vendor, name), share in SHARES.items() if f"{vendor}/{name}" == kind)
        kept = [event for event in events(count * 100 // share * 2) if f"{event.vendor}/{event.kind}" == kind][:count]
        made = tuple(raw_record(item.vendor, "acme", item.body, item.at, None, 64) for item in kept)
    return [record.at(partition_for(record.key.decode(), PARTITIONS), offset) for offset, record in enumerate(made)]


def run_normalize(normalize: Normalizer, of: list[ConsumerRecord]) -> None:
    memories: dict[TopicPartition, InMemoryState] = {}
    for raw in of:
        memory = memories.setdefault(raw.topic_partition, InMemoryState())
        memory.apply(normalize(envelope_of(raw), memory).state_updates)


def run_map_event(normalize: Normalizer, of: list[ConsumerRecord]) -> None:
    states: dict[TopicPartition, PartitionState] = {}
    for raw in of:
        state = states.setdefault(raw.topic_partition, PartitionState())
        mapped = map_event(raw, normalize, state, PARTITIONS)
        state.record_updates(state_topic(raw.vendor), raw.partition, mapped.key, mapped.state_updates)


WAYS: dict[str, Callable[[Normalizer, list[ConsumerRecord]], None]] = {
    "normalize": run_normalize,
    "map_event": run_map_event,
}


def core(validation: str) -> Normalizer:
    """The packaged configuration; no ``.env`` is read."""
    made = build_normalizer(Settings(validation=validation, _env_file=None))
    made.validate({"resourceType": "Patient"})  # compiles the schemas now
    return made


def shape(of: list[ConsumerRecord]) -> dict[str, Any]:
    """Count what an event of the mix becomes, on average; assert that all of it is mapped."""
    normalize = core("spec")
    states: dict[TopicPartition, PartitionState] = {}
    records: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for raw in of:
        state = states.setdefault(raw.topic_partition, PartitionState())
        mapped = map_event(raw, normalize, state, PARTITIONS)
        assert mapped.error is None, f"{raw.topic}: {mapped.error}"
        state.apply(mapped.state_updates)
        for record in mapped.records:
            group = record.topic if record.topic in (BUNDLE, OUTCOME) else "resources"
            records[group] += 1
            sizes[group] += len(record.value or b"")
        records["state"] += len(mapped.state_updates)
    return {
        "raw bytes": round(statistics.mean(len(item.value or b"") for item in of)),
        "records an event": {name: round(number / len(of), 2) for name, number in records.items()},
        "bytes a record": {name: round(size / records[name]) for name, size in sizes.items()},
    }


def measure(count: int, repeats: int, validations: tuple[str, ...] = VALIDATIONS, kind: str | None = None) -> Any:
    """Events a CPU-second: per way and validation the runs and their median, interleaved."""
    of = raws(count, kind)
    cores = {validation: core(validation) for validation in validations}
    runs: dict[str, list[float]] = {f"{way} {validation}": [] for way in WAYS for validation in validations}
    for normalize in cores.values():  # models and caches that are built when first used
        run_map_event(normalize, of[: max(1, count // 10)])
    for _ in range(repeats):
        for validation, normalize in cores.items():
            for name, way in WAYS.items():
                begun = time.process_time()
                way(normalize, of)
                runs[f"{name} {validation}"].append(round(len(of) / (time.process_time() - begun), 1))
    return {name: {"median": statistics.median(run), "runs": run} for name, run in runs.items()}


def profile(count: int, validation: str, lines: int, sort: str, kind: str | None = None) -> None:
    of, normalize = raws(count, kind), core(validation)
    run_map_event(normalize, of[: max(1, count // 10)])
    profiler = cProfile.Profile()
    profiler.runcall(run_map_event, normalize, of)
    pstats.Stats(profiler).strip_dirs().sort_stats(sort).print_stats(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=5_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--validation", choices=VALIDATIONS, help="only this one (with --profile: spec)")
    parser.add_argument("--kind", choices=[f"{vendor}/{kind}" for vendor, kind in SHARES], help="only this kind")
    parser.add_argument("--profile", type=int, nargs="?", const=40, metavar="LINES", help="print a cProfile top list")
    parser.add_argument("--sort", default="tottime", choices=("tottime", "cumtime"), help="order of the top list")
    asked = parser.parse_args()
    if asked.profile:
        profile(asked.events, asked.validation or "spec", asked.profile, asked.sort, asked.kind)
    else:
        chosen = (asked.validation,) if asked.validation else VALIDATIONS
        found = measure(asked.events, asked.repeat, chosen, asked.kind)
        print(json.dumps({"events a CPU-second": found, **shape(raws(asked.events, asked.kind))}, indent=1))
