"""Samples are read from JSON, arrays and NDJSON; an unusable file is named with line and reason."""

from pathlib import Path

import pytest

from fhirline.config.errors import ConfigurationError
from fhirline.streams.authoring.samples import read_samples


def file(folder: Path, content: bytes) -> Path:
    path = folder / "sample.json"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "bodies", "origins"),
    [
        (b'{"a": 1}', [{"a": 1}], [""]),
        (b'\n\n{\n "a": 1\n}\n\n', [{"a": 1}], [""]),
        (b'\xef\xbb\xbf{"a": 1}', [{"a": 1}], [""]),
        (b'[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}], ["[0]", "[1]"]),
        (b'[\n {"a": 1}\n]', [{"a": 1}], ["[0]"]),
        (b'{"a": 1}\n\n{"a": 2}\n', [{"a": 1}, {"a": 2}], [":1", ":3"]),
        (b'\xef\xbb\xbf{"a": 1}\r\n{"a": 2}\r\n', [{"a": 1}, {"a": 2}], [":1", ":2"]),
        ('{"größe": "\u2028 مرحبا 😀"}'.encode(), [{"größe": "\u2028 مرحبا 😀"}], [""]),
    ],
)
def test_samples_are_read(tmp_path: Path, content: bytes, bodies: list[object], origins: list[str]) -> None:
    path = file(tmp_path, content)
    samples = read_samples([path])
    assert [sample.body for sample in samples] == bodies
    assert [sample.origin for sample in samples] == [f"{path}{origin}" for origin in origins]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", ": the file is empty"),
        (b" \n ", ": the file is empty"),
        (b"{}", ": the object is empty"),
        (b"[]", ": the array is empty"),
        (b"7", ": a webhook body is a JSON object, and this is a number"),
        (b'[{"a": 1}, "x"]', "[1]: a webhook body is a JSON object, and this is a string"),
        (b"[[1]]", "[0]: a webhook body is a JSON object, and this is an array"),
        (b"true", ": a webhook body is a JSON object, and this is a boolean"),
        (b"null", ": a webhook body is a JSON object, and this is null"),
        (b'{"a": 1,\n "b": }', ":2:7: not JSON: unexpected character"),
        (b'{"a": 1}\n{"a": 2}\n{"a": \n', ":3:7: not JSON: unexpected end of data"),
        (b'{"a": NaN}', ":1:7: not JSON: unexpected character"),
        (b'{"a": "\xff"}', ": not UTF-8; a webhook body is JSON in UTF-8"),
        ('{"a": 1}'.encode("utf-16"), ": not UTF-8; a webhook body is JSON in UTF-8"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, ": nested deeper than 64 levels"),
    ],
)
def test_an_unusable_sample_is_named_with_its_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = file(tmp_path, content)
    with pytest.raises(ConfigurationError) as raised:
        read_samples([path])
    assert str(raised.value).startswith(f"--sample: {path}{reason}")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.json: No such file"):
        read_samples([tmp_path / "none.json"])
