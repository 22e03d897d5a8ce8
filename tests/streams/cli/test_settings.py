"""What `fhirline settings` says of wrong values, and of variables that nothing reads."""

import pytest

from tests.support import cli

WRONG = {
    ("FHIRLINE_PARTITIONS", "six"): "must be a whole number",
    ("FHIRLINE_PARTITIONS", "0"): "must be greater than or equal to 1",
    ("FHIRLINE_PARTITIONS", "9" * 5000): "must be a whole number of fewer digits",
    ("FHIRLINE_DELIVERY_TIMEOUT", "a minute"): "must be a number",
    ("FHIRLINE_SECURITY_PROTOCOL", "TLS"): "must be 'PLAINTEXT', 'SSL', 'SASL_PLAINTEXT' or 'SASL_SSL'",
    ("FHIRLINE_BASE", "clinic"): "must be an absolute http(s) URL",
}


@pytest.mark.parametrize(("variable", "said"), WRONG.items(), ids=[f"{name} {value[:9]}" for name, value in WRONG])
def test_a_wrong_value_is_told_in_plain_words(variable: tuple[str, str], said: str) -> None:
    name, value = variable
    ran = cli.run("settings", env={name: value})
    assert ran.returncode == 2
    assert ran.stdout == ""
    [line] = ran.stderr.splitlines()
    assert line.startswith(f"fhirline: {name}: {said}")


def test_a_variable_that_nothing_reads_is_named() -> None:
    """Secrets that the vendors file names are read, and so is the file of each."""
    read = {"FHIRLINE_PARTITIONS": "7", "FHIRLINE_MEDIQUO_SECRET": "x", "FHIRLINE_MEDIQUO_SECRET_FILE": "x"}
    ran = cli.run("settings", env={**read, "FHIRLINE_PARTITION": "6"})
    assert ran.returncode == 0
    assert "FHIRLINE_PARTITIONS\t7\t" in ran.stdout
    assert ran.stderr == "fhirline settings: FHIRLINE_PARTITION: nothing reads this variable; check its spelling\n"
