"""Findings of ``fhirline doctor``, and secrets of which it reports nothing."""

from collections.abc import Iterable

from fhirline.streams.operate.doctor.finding import Finding, Level
from tests.support.receiving import CREDENTIALS

OK, WARNING, PROBLEM = Level.OK, Level.WARNING, Level.PROBLEM
NOWHERE = "127.0.0.1:9"
GOOD = "k7Vw2p0ZrJx9Qm4NtB6s"
SECRETS = {credential.secrets[0]: GOOD for credential in CREDENTIALS.values()}


def said(findings: Iterable[Finding], check: str) -> list[tuple[Level, str]]:
    """Return level and text of a check's findings. Each problem and warning has a fix."""
    found = [finding for finding in findings if finding.check == check]
    assert all(item.fix for item in found if item.level is not OK)
    return [(item.level, item.text) for item in found]
