"""The same pipeline the way the documentation of Faust and fhir.resources shows it: what fhirline is compared with.

* A Faust agent a raw topic, ``async for event in stream.events()``; settings are Faust's defaults (delivery at least
  once, its own aiokafka producer), but for the broker's address, its session timeout and the web server, which is off.
* The mappings are fhirline's own functions, so that both say the same; their validation is off.
* Each resource becomes a fhir.resources model by ``model_validate``, which validates it, and leaves as
  ``model_dump_json()`` by ``await topic.send(key=..., value=...)``, in the order of the Bundle; then Bundle and
  OperationOutcome. A constant that has gone out before is left out, so that the same records go out as from fhirline.
  The Bundle's model takes the resources' models as they are: they are not validated again.

In favour of this side: what folds remember is a dict in memory (fhirline writes it to Kafka in the same barrier), no
event waits for its acknowledgements, and records have no headers. Against it: the mapping serializes what it makes
once more (`Output.value`, unused here), some microseconds a resource of the hundreds that model and send take.

    python -m benchmarks.idiomatic worker
"""

from typing import Any

import faust
from fhir.resources.R4B import get_fhir_model_class

from fhirline.config.settings import load_settings
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.mappers.registry import VENDORS
from fhirline.streams.kafka.records import ConsumerRecord, TopicPartition, from_faust
from fhirline.streams.step4_normalize.raw_event import envelope_of
from fhirline.topics.declared import BUNDLE, OUTCOME, RESOURCE_TYPES, canonical_topic, raw_topic

settings = load_settings(validation="off")
normalize = build_normalizer(settings)
memories: dict[TopicPartition, InMemoryState] = {}
sent: dict[str, bytes] = {}

app = faust.App(
    settings.group,
    broker=f"kafka://{settings.bootstrap}",
    broker_session_timeout=settings.session_timeout,
    broker_heartbeat_interval=settings.session_timeout / 10,
    broker_request_timeout=settings.session_timeout + 30,
    web_enabled=False,
)

OUT = {
    name: app.topic(topic, key_serializer="raw", value_serializer="raw")
    for name, topic in {
        **{item: canonical_topic(item) for item in RESOURCE_TYPES},
        "Bundle": BUNDLE,
        "OperationOutcome": OUTCOME,
    }.items()
}


async def send(key: str, model: Any) -> None:
    await OUT[key.partition("/")[0]].send(key=key.encode(), value=model.model_dump_json().encode())


async def follow(raw: ConsumerRecord) -> None:
    memory = memories.setdefault(raw.topic_partition, InMemoryState())
    mapped = normalize(envelope_of(raw), memory)
    memory.apply(mapped.state_updates)
    models = {
        output.key: get_fhir_model_class(output.resource["resourceType"]).model_validate(output.resource)
        for output in mapped.outputs
    }
    for output in mapped.outputs:
        if output.constant and sent.get(output.key) == output.value:
            continue
        if output.constant:
            sent[output.key] = output.value
        await send(output.key, models[output.key])
    if mapped.bundle:
        entries = [
            {**entry, "resource": model}
            for entry, model in zip(mapped.bundle.resource["entry"], models.values(), strict=True)
        ]
        bundle = get_fhir_model_class("Bundle")(**{**mapped.bundle.resource, "entry": entries})
        await send(mapped.bundle.key, bundle)
    if mapped.outcome:
        outcome = get_fhir_model_class("OperationOutcome").model_validate(mapped.outcome.resource)
        await send(mapped.outcome.key, outcome)


def add_agent(vendor: str) -> None:
    @app.agent(app.topic(raw_topic(vendor), key_serializer="raw", value_serializer="raw"), name=raw_topic(vendor))
    async def agent(stream: Any) -> None:
        async for event in stream.events():
            await follow(from_faust(event.message))


for item in VENDORS:
    add_agent(item)

if __name__ == "__main__":
    app.main()
