"""``fhirline doctor``: the checks of settings, secrets, files and the enrichment's instance."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from fhirline.config.terminology import load_terminology
from fhirline.config.vendors import Vendors, load_vendors
from fhirline.streams.operate.doctor import configuration, instances
from fhirline.streams.operate.doctor.finding import Level
from tests.support.doctor import GOOD, NOWHERE, OK, PROBLEM, SECRETS, WARNING, said
from tests.support.infermedica_server import CLIENT_ID, CLIENT_SECRET, InfermedicaServer
from tests.support.kafka.brokers import settings_for
from tests.support.paths import CONFIG


def changed_vendors(folder: Path, **infermedica: Any) -> Path:
    """Write the packaged file with other defaults for Infermedica."""
    content = yaml.safe_load((CONFIG / "vendors.yaml").read_text("utf-8"))
    content["vendors"]["infermedica"]["defaults"] |= infermedica
    path = folder / "vendors.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    return path


def test_a_mistyped_variable_is_named() -> None:
    known = {**SECRETS, "FHIRLINE_PARTITIONS": "6", "FHIRLINE_MEDIQUO_SECRET_FILE": "x", "PATH": "x"}
    assert configuration.unknown_variables(load_vendors(), known).level is OK
    found = configuration.unknown_variables(load_vendors(), {**known, "FHIRLINE_PARTITION": "6"})
    assert (found.level, "FHIRLINE_PARTITION" in found.text) == (WARNING, True)


def test_what_differs_from_the_defaults_is_shown_without_secrets() -> None:
    found = configuration.changed_settings(settings_for("kafka:9092", sasl_password="do-not-show", partitions=12))
    assert "FHIRLINE_PARTITIONS=12" in found.text
    assert "FHIRLINE_SASL_PASSWORD=" in found.text
    assert "do-not-show" not in found.text


def only(vendor: str) -> Vendors:
    return Vendors(vendors={vendor: load_vendors()[vendor]})


@pytest.mark.parametrize(
    ("secret", "level", "words"),
    [
        (None, PROBLEM, "is not set"),
        ("change-me-please-change-me", PROBLEM, "placeholder"),
        ("short", WARNING, "fewer than 16"),
        (GOOD, OK, "a secret for header x-webhook-signature"),
    ],
)
def test_a_vendors_secret(secret: str | None, level: Level, words: str) -> None:
    held = {"FHIRLINE_MEDIQUO_SECRET": secret} if secret else {}
    [(found, text)] = said(configuration.credentials(only("mediquo"), held), "credentials")
    assert found is level
    assert words in text
    assert not secret or secret not in text


def test_a_gateway_that_runs_here_may_have_a_secret_that_is_not_seen() -> None:
    [(level, text)] = said(configuration.credentials(only("mediquo"), {}, gateway=True), "credentials")
    assert (level, "doctor cannot see" in text) == (WARNING, True)
    held = {"FHIRLINE_MEDIQUO_SECRET": "change-me-please-change-me"}
    [(level, _)] = said(configuration.credentials(only("mediquo"), held, gateway=True), "credentials")
    assert level is PROBLEM


def test_a_file_of_secrets_exists_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "mediquo"
    held = {"FHIRLINE_MEDIQUO_SECRET_FILE": str(path)}
    missing = list(configuration.credentials(only("mediquo"), held))
    assert said(missing, "secret files")[0][0] is PROBLEM
    assert said(missing, "credentials")[0][0] is PROBLEM
    path.write_text(f"{GOOD}\n{GOOD}2\n", "utf-8")
    path.chmod(0o644)
    exposed = list(configuration.credentials(only("mediquo"), held))
    assert said(exposed, "secret files")[0][0] is WARNING
    path.chmod(0o600)
    [kept] = configuration.credentials(only("mediquo"), held)
    assert (kept.level, "2 secrets" in kept.text) == (OK, True)
    assert GOOD not in repr([missing, exposed, kept])


def test_a_settings_secret_file(tmp_path: Path) -> None:
    path = tmp_path / "sasl"
    settings = settings_for(NOWHERE, sasl_password_file=path)
    levels = []
    for content, mode in ((None, 0), ("", 0o600), ("s3cret", 0o640), ("s3cret", 0o600)):
        if content is not None:
            path.write_text(content, "utf-8")
            path.chmod(mode)
        levels.append(said(configuration.secret_files(settings), "secret files")[0][0])
    assert levels == [PROBLEM, PROBLEM, WARNING, OK]


def test_broken_files_are_named_with_line_numbers(tmp_path: Path) -> None:
    vendors = tmp_path / "vendors.yaml"
    vendors.write_text("vendors: {mediquo: {name: 1, defaults: {}, tenants: {UPPER: }}}", "utf-8")
    (tmp_path / "form.yaml").write_text('version: "1"\nrows:\n  - nonsense: true\n', "utf-8")
    settings = settings_for(NOWHERE, vendors_file=vendors, terminology_dir=tmp_path / "tables")
    found = configuration.vendors_file(settings)
    assert (found.level, str(vendors) in found.text) == (PROBLEM, True)
    (tmp_path / "tables").mkdir()
    (tmp_path / "form.yaml").rename(tmp_path / "tables" / "form.yaml")
    [(level, text)] = said(configuration.tables(settings), "tables")
    assert level is PROBLEM
    assert "form.yaml:" in text
    assert [level for level, _ in said(configuration.tables(settings_for(NOWHERE)), "tables")] == [OK]


def test_rows_that_override_shipped_ones_are_listed(tmp_path: Path) -> None:
    (tmp_path / "frequency.yaml").write_text(
        "version: own-1\ntitle: Own\nrows:\n"
        "  - {source: [thrice], means: {frequency: 3, period: 1, period_unit: d}}\n"
        "  - {source: [Weekly, monthly], means: {frequency: 1, period: 7, period_unit: d}}\n",
        "utf-8",
    )
    (tmp_path / "azodha-gender.yaml").write_text(
        "version: own-1\ntitle: Own\nrows:\n"
        "  - {source: [male], means: {gender: male}}\n"
        "  - {source: [female], means: {gender: female}}\n",
        "utf-8",
    )
    total, *rows = said(configuration.tables(settings_for(NOWHERE, terminology_dir=tmp_path)), "tables")
    tables = len(load_terminology().names)
    assert total == (OK, f"{tables} code tables; {tmp_path} adds rows for 1 word, and overrides 4 words")
    gts = "http://terminology.hl7.org/CodeSystem/v3-GTSAbbreviation"
    own = "frequency=1 period=7 period_unit=d"
    assert rows == [
        (OK, f"frequency: Weekly: frequency=1 period=1 period_unit=wk {gts}#WK -> {own}"),
        (OK, f"frequency: monthly: frequency=1 period=1 period_unit=mo {gts}#MO -> {own}"),
        (OK, "azodha-gender: 2 words as shipped"),
    ]


def test_an_enriched_tenant_needs_an_instance_that_accepts_its_credentials(tmp_path: Path) -> None:
    path = changed_vendors(tmp_path, enrichment=True)
    bare = settings_for(NOWHERE, vendors_file=path)
    assert {level for level, _ in said(configuration.enrichment(bare, load_vendors(path)), "enrichment")} == {PROBLEM}
    with InfermedicaServer() as api:
        own = {"infermedica_url": api.url, "infermedica_client_id": CLIENT_ID, "vendors_file": path}
        right = settings_for(NOWHERE, **own, infermedica_client_secret=CLIENT_SECRET)
        assert {item.level for item in configuration.enrichment(right, load_vendors(path))} == {OK}
        assert {item.level for item in instances.reached(right)} == {OK}
        wrong = settings_for(NOWHERE, **own, infermedica_client_secret="wrong-secret")
        refused = list(instances.reached(wrong))
        assert {item.level for item in refused} == {PROBLEM}
        assert "wrong-secret" not in repr(refused)
    assert {item.level for item in instances.reached(right)} == {PROBLEM}  # nobody is there any more
