"""Makes the definitions of a deployment with the packaged tables, under the BASE of the golden cases."""

from functools import cache

from fhirline.config.terminology import load_terminology
from fhirline.config.vendors import Vendors, load_vendors
from fhirline.mappers.conformance.definition import Deployment
from fhirline.mappers.conformance.guide import definitions, definitions_version
from fhirline.mappers.identity import Naming
from fhirline.mappers.results import Resource
from tests.support.cases import BASE


def deployment(vendors: Vendors | None = None, base: str = BASE) -> Deployment:
    return Deployment(Naming(base), vendors or load_vendors(), load_terminology(), definitions_version("1.0.0"))


@cache
def made() -> tuple[Resource, ...]:
    return tuple(definitions(deployment()))
