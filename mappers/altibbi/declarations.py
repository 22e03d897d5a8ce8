"""Kinds of identifiers of Altibbi's mappings."""

from collections.abc import Mapping

IDENTIFIERS: Mapping[str, str] = {
    "consultation": "An Altibbi consultation; all of its prescriptions have it as group identifier",
    "insurance-id": "Altibbi's insurance_id of a user",
    "policy-number": "The number of a user's insurance policy, as Altibbi sends it",
    "registration-number": "The registration number of a medicine, as Altibbi sends it",
    "user": "An Altibbi user: the patient",
}
