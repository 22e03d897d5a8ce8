"""Records are opened and sealed in one place each: nothing else in the code sees ciphertext."""

from tests.support.paths import files_with

DATA_KEY, SECRETS = "streams/kafka/encryption/data_key.py", "streams/kafka/encryption/secrets.py"
OPENER, RECORDS = "streams/kafka/encryption/opener.py", "streams/kafka/records.py"


def test_records_are_opened_and_sealed_in_one_place_each() -> None:
    assert {*files_with(r"\bAESGCM\b")} == {DATA_KEY, SECRETS}
    assert files_with(r"\bkey\.open\(") == [OPENER]
    assert files_with(r"\.seal\(") == [RECORDS]
    assert files_with(r"\.sealed\(") == [DATA_KEY, RECORDS]
