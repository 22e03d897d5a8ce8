"""``fhirline forget``: what it asks for, prints and writes, and that it never names the patient."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from fhirline.streams.observe.audit import who
from tests.support.erasure import KEY, changed, fhirline, of
from tests.support.load import Load
from tests.support.waiting import LIMIT


@pytest.mark.long
def test_the_command_reports_what_it_does_and_never_names_the_patient(load: Load, tmp_path: Path) -> None:
    load.send(load.events(40, seed=14))
    patient = load.patient("mediquo")
    mine = load.made_of(patient)
    named = ("--vendor", "mediquo", "--tenant", load.tenant, "--patient", "-")
    key, exported = f"{patient.key}\n", tmp_path / "report.json"

    reason = ("--reason", "ticket 8")
    for none in ((), ("--reason", " "), ("--lift",)):
        unexplained = fhirline(load.settings, *named, "--yes", *none, stdin=key, **KEY)
        assert (unexplained.returncode, unexplained.stdout) == (2, "")
        assert unexplained.stderr.startswith("fhirline: --reason: required, for the audit event")
    keyless = fhirline(load.settings, *named, "--yes", *reason, stdin=key)
    assert (keyless.returncode, "FHIRLINE_ERASURE_KEY: not set" in keyless.stderr) == (2, True)
    dry = fhirline(load.settings, *named, "--dry-run", stdin=key, **KEY)
    assert (dry.returncode, dry.stdout.splitlines()[-1]) == (0, "Nothing was done."), dry.stderr
    unasked = fhirline(load.settings, *named, *reason, stdin=key, **KEY)
    assert (unasked.returncode, "--yes" in unasked.stderr) == (2, True)
    typo = fhirline(load.settings, *named, "--yes", *reason, stdin=f"{patient.key}x\n", **KEY)
    assert (typo.returncode, "nothing is known" in typo.stderr) == (1, True)
    unwritable = fhirline(load.settings, *named, "--yes", "--export-report=/no/such/folder", *reason, stdin=key, **KEY)
    assert (unwritable.returncode, "--export-report" in unwritable.stderr) == (2, True)
    assert load.live(mine) == mine, "so far nothing was to be done"

    exported.write_text("of an earlier run")
    exported.chmod(0o644)
    because = ("--reason", "ticket 9", "--as", "a clerk")
    asked = (*named, "--yes", "--settle=0", f"--export-report={exported}", *because)
    done = fhirline(load.settings, *asked, stdin=key, **KEY)
    assert done.returncode == 0, done.stderr
    (audit,) = (json.loads(line) for line in done.stderr.splitlines() if "patient erased" in line)
    assert (audit["reason"], audit["as"]) == ("ticket 9", "a clerk")
    assert (audit["patient"], audit["who"]) == (json.loads(exported.read_text())["digest"], who())
    assert not any("patient erased" in said.stderr for said in (keyless, dry, unasked, typo))
    assert not load.live(mine)
    report = json.loads(exported.read_text())
    assert set(report["keys"]) == {name.partition(" ")[2] for name in mine}
    assert exported.stat().st_mode & 0o077 == 0
    for said in (dry.stdout, dry.stderr, done.stdout, done.stderr, exported.read_text()):
        assert patient.key not in said

    assert fhirline(load.settings, *named, "--lift", "--yes", *reason, stdin=key, **KEY).returncode == 0
    load.raws = load.send([changed([raw], patient, come="back") for raw in load.raws if of(raw, [patient])])
    assert load.live(load.made_of(patient)) == load.made_of(patient) != set()


def test_on_a_terminal_the_key_is_asked_for_without_echo() -> None:
    main, other = pty.openpty()
    asking = subprocess.Popen(
        [sys.executable, "-c", "from fhirline.streams.cli.forget import _asked; print(_asked())"],
        stdin=other,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # without a terminal of its own but this one
    )
    try:
        prompt = b"patient key: "
        assert asking.stderr
        assert asking.stderr.read(len(prompt)) == prompt
        os.write(main, b"PATIENT-IN-HAND\n")
        out, error = asking.communicate(timeout=LIMIT)
        assert out == b"PATIENT-IN-HAND\n", error
        assert b"PATIENT-IN-HAND" not in error
        os.set_blocking(main, False)
        try:
            shown = os.read(main, 1000)
        except BlockingIOError:
            shown = b""
        assert b"PATIENT-IN-HAND" not in shown
    finally:
        asking.kill()
        asking.wait()
        os.close(main)
        os.close(other)
