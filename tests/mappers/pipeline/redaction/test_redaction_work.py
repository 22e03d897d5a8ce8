"""The work of redaction grows with the length of a text only (mapping.md §7)."""

from collections.abc import Callable

import pytest

from fhirline.mappers.pipeline.redaction import embedded_formats
from fhirline.mappers.pipeline.redaction.redact import redact

SECRET = "S3CR3T-5528"


def test_many_texts_are_redacted_in_linear_time() -> None:
    """Each is larger than what a quadratic search gets through within the test's time."""
    for unit in (
        '"',
        "a=",
        "=",
        "%25",
        "&quot;",
        "\\",
        "pass_code ",
        '"pass_code',
        "{'",
        "[",
        "eyJ",
        "pass code: ",
        "pass code:1 ",
    ):
        text = unit * (400_000 // len(unit))
        assert redact({"x": f"{text} pass_code={SECRET}"}) != {"x": f"{text} pass_code={SECRET}"}


def readings(text: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Redact a text; return how many characters were searched for names."""
    searched: list[int] = []
    search = embedded_formats.names_secret

    def counted(text: str, below: frozenset[str]) -> bool:
        searched.append(len(text))
        return search(text, below)

    with monkeypatch.context() as patch:
        patch.setattr(embedded_formats, "names_secret", counted)
        redact({"note": text})
    return sum(searched)


@pytest.mark.parametrize("levels", [3, 6, 200])
@pytest.mark.parametrize(
    "chain",
    [
        lambda levels: "%" + "25" * levels,
        lambda levels: "&" + "amp;" * levels,
        lambda levels: "%" + "25" * levels + " &" + "amp;" * levels,
        lambda levels: "%26" + "amp%3B" * levels,
    ],
    ids=["percent", "html", "both", "mixed"],
)
def test_the_work_of_a_text_does_not_grow_with_its_encodings(
    chain: Callable[[int], str], levels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Percent and HTML encodings in both orders were two ways a level: 24 levels of a short text took minutes."""
    text = "x " * 5_000 + chain(levels) + " ask for the pass_code"
    assert readings(text, monkeypatch) <= 6 * len(text)
