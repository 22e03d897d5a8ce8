"""Altibbi's webhook bodies (vendor-payloads.md §3). Fields have the vendor's names, and all are optional."""

from typing import Annotated, Any

from fhirline.mappers.icd10 import Icd10Code
from fhirline.mappers.payload import DOCUMENT, Id, Items, Maybe, Payload, Shortest, Text
from fhirline.mappers.pipeline.ledger import Rule


class Sender(Payload):
    """The user that an event is about."""

    user_id: Id = None


class Event(Sender):
    """The fields of both events."""

    type: Text = None
    consultation_id: Id = None
    insurance_id: Id = None
    policy_number: Id = None
    datetime: Text = None


class StatusUpdate(Event):
    """``status_update``."""

    old_status: Text = None
    new_status: Text = None


class Coded(Payload):
    """A symptom or a diagnosis with its ICD-10 code."""

    name: Text = None
    code: Icd10Code = None


class Named(Payload):
    """A test, a panel, a specialty or a follow-up: a label without a code."""

    name: Text = None


class Icd10(Payload):
    symptom: Items[Coded] = ()
    diagnosis: Items[Coded] = ()


class FdaDrug(Payload):
    name: Text = None
    tradeName: Text = None
    registrationNumber: Id = None
    strengthValue: Annotated[Shortest, Rule("kept", "§9.2.4")] = None
    packageType: Annotated[Shortest, Rule("kept", "§9.2.4")] = None
    packageSize: Annotated[Shortest, Rule("kept", "§9.2.4")] = None
    dosage: Shortest = None
    dosageUnit: Text = None
    routeOfAdministration: Text = None
    dosageForm: Text = None
    frequency: Text = None
    duration: Shortest = None
    specialInstructions: Text = None
    relationWithFood: Text = None
    howToUse: Text = None


class Drug(Payload):
    fdaDrug: Items[FdaDrug] = ()


class Lab(Payload):
    lab: Items[Named] = ()
    panel: Items[Named] = ()


class Answer(Payload):
    question: Text = None
    answer: Text = None


class Data(Payload):
    icd10: Items[Icd10] = ()
    drug: Items[Drug] = ()
    lab: Items[Lab] = ()
    doctorReferral: Items[Named] = ()
    followUp: Items[Named] = ()
    postCallAnswer: Annotated[Items[Answer], DOCUMENT] = ()
    dispense: Annotated[Any, Rule("withheld", "§9.2.9")] = None


class Recommendation(Event):
    """``recommendation_data``."""

    data: Maybe[Data] = None
