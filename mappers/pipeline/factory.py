"""Builds the normalizer of a deployment: the pure core with the operator's settings."""

from fhirline.config.settings import Settings
from fhirline.config.terminology import load_terminology
from fhirline.config.vendors import load_vendors
from fhirline.mappers.fhir.validation import OnDisagreement, Validator, ignored, sampled, validator
from fhirline.mappers.identity import Naming
from fhirline.mappers.pipeline.normalize import Normalizer


def build_normalizer(settings: Settings, on_disagreement: OnDisagreement | None = None) -> Normalizer:
    """Build the Normalizer of these settings; raise ConfigurationError for a wrong vendors file or code table.

    With ``on_disagreement``, one resource in ``cross_check_every`` is also validated by fhir.resources, as a continuous
    check of the compiled validator. Without it nothing is sampled, and a run depends on its input alone.
    """
    return Normalizer(
        load_vendors(settings.vendors_file),
        Naming(settings.base, settings.server_base or ""),
        load_terminology(settings.terminology_dir),
        _validator(settings, on_disagreement),
    )


def _validator(settings: Settings, on_disagreement: OnDisagreement | None) -> Validator:
    checks = validator(settings.validation, on_disagreement or ignored)
    if on_disagreement is None or settings.validation != "spec" or not settings.cross_check_every:
        return checks
    return sampled(checks, settings.cross_check_every, on_disagreement)
