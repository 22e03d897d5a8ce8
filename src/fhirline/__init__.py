"""fhirline: telehealth vendors' webhooks in, validated HL7 FHIR R4 resources out.

The names in ``__all__`` are the Python API (docs/python-api.md). They are loaded on first use, so that
``import fhirline`` is cheap; none of them imports a Kafka client.

The folders of this package are links to those at the top of the repository: ``fhirline.streams`` is ``streams/``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fhirline.config.errors import ConfigurationError, FhirlineError
    from fhirline.mappers import MAPPING_VERSION
    from fhirline.mappers.api import NormalizedEvent, Options, normalize
    from fhirline.mappers.fhir.validation import Problem
    from fhirline.mappers.pipeline.envelope import UnreadableBody
    from fhirline.mappers.pipeline.folding import InMemoryState
    from fhirline.mappers.pipeline.output import Refusal
    from fhirline.mappers.results import Flag

    __version__: str

__all__ = [
    "MAPPING_VERSION",
    "ConfigurationError",
    "FhirlineError",
    "Flag",
    "InMemoryState",
    "NormalizedEvent",
    "Options",
    "Problem",
    "Refusal",
    "UnreadableBody",
    "__version__",
    "normalize",
]

_MODULES = {
    "MAPPING_VERSION": "fhirline.mappers",
    "ConfigurationError": "fhirline.config.errors",
    "FhirlineError": "fhirline.config.errors",
    "Flag": "fhirline.mappers.results",
    "InMemoryState": "fhirline.mappers.pipeline.folding",
    "NormalizedEvent": "fhirline.mappers.api",
    "Options": "fhirline.mappers.api",
    "Problem": "fhirline.mappers.fhir.validation",
    "Refusal": "fhirline.mappers.pipeline.output",
    "UnreadableBody": "fhirline.mappers.pipeline.envelope",
    "normalize": "fhirline.mappers.api",
}


def __getattr__(name: str) -> object:
    """Load a name of the API on first use (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        value: object = version("fhirline")
    elif name in _MODULES:
        value = getattr(import_module(_MODULES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
