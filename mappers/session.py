"""The normalizer of a deployment: the pure core bound to the operator's settings, built in one place."""

from config.settings import Settings
from config.terminology import load_terminology
from config.vendors import load_vendors
from mappers.fhir.validation import validator
from mappers.identity import Naming
from mappers.normalize import Normalizer


def normalizer(settings: Settings) -> Normalizer:
    """Raises ConfigurationError where vendors or tables are wrong."""
    return Normalizer(
        load_vendors(settings.vendors_file),
        Naming(settings.base, settings.server_base or ""),
        load_terminology(settings.terminology_dir),
        validator(settings.validation),
    )
