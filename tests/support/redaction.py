"""What tests of redaction share: both ways to redact a body, and the time that a text takes."""

from time import process_time
from typing import Any

import orjson

from fhirline.mappers.pipeline.redaction.credentials import has_credential
from fhirline.mappers.pipeline.redaction.redact import redact

SECRET = "S3CR3T-5528"


def both_ways(body: Any) -> Any:
    """Redact a body with and without its source, and as part of a large one: all must agree, twice changes nothing."""
    made = redact(body, orjson.dumps(body))
    assert made == redact(body)
    assert redact([body] * 2)[0] == made
    among = [body, *range(100)]
    assert redact({"a": among})["a"] == [made, *range(100)]
    if isinstance(body, dict):
        others = {f"n{number}": number for number in range(100)}
        assert redact({**others, **body}, orjson.dumps(body) + b" " * 300_000) == {**others, **made}
    assert made == redact(made)
    return made


def assert_linear(unit: str) -> None:
    """Assert that twice the text, of repeated units, takes about twice the time, and not four times it."""

    def seconds(size: int) -> float:
        text = unit * (size // len(unit))
        began = process_time()
        redact({"note": text})
        has_credential(text)
        return process_time() - began

    seconds(10_000)
    assert seconds(400_000) < 3 * seconds(200_000) + 0.5
