"""Reading a FHIR server's answers, in the words of HAPI."""

import pytest

from fhirline.streams.deliver.answers import verdict


@pytest.mark.parametrize("path", ["Flag.subject", "Flag.subject.where(resolve() is Patient)"])
def test_the_element_of_a_foreign_reference_is_told_without_functions(path: str) -> None:
    """HAPI names any of the paths that its search parameters have to one element."""
    text = (
        "HAPI-0550: HAPI-0515: Unable to delete Patient/a because at least one resource has a reference to this "
        f"resource. First reference found was resource Flag/foreign in path {path}"
    )
    outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "diagnostics": text}]}
    assert verdict(409, outcome, None).referring == ("Flag/foreign at Flag.subject",)
