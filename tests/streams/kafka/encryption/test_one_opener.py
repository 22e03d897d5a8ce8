"""Records are opened and sealed in one place each: nothing else in the code sees ciphertext."""

import re

from tests.support.paths import ROOT

DATA_KEY, SECRETS = "streams/kafka/encryption/data_key.py", "streams/kafka/encryption/secrets.py"
OPENER, RECORDS = "streams/kafka/encryption/opener.py", "streams/kafka/records.py"


def files_with(pattern: str) -> list[str]:
    """Return the files of ours in which a pattern is found, once for each time."""
    found = []
    for top in ("config", "mappers", "streams", "topics"):
        for path in (ROOT / top).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            found += [name] * len(re.findall(pattern, path.read_text("utf-8")))
    return sorted(found)


def test_records_are_opened_and_sealed_in_one_place_each() -> None:
    assert {*files_with(r"\bAESGCM\b")} == {DATA_KEY, SECRETS}
    assert files_with(r"\bkey\.open\(") == [OPENER]
    assert files_with(r"\.seal\(") == [RECORDS]
    assert files_with(r"\.sealed\(") == [DATA_KEY, RECORDS]
