"""The normalizer of a deployment: the pure core bound to the operator's settings, built in one place."""

from fhirline.config.settings import Settings
from fhirline.config.terminology import load_terminology
from fhirline.config.vendors import load_vendors
from fhirline.mappers.fhir.validation import OnDisagreement, Validator, ignored, sampled, validator
from fhirline.mappers.identity import Naming
from fhirline.mappers.pipeline.normalize import Normalizer


def normalizer(settings: Settings, on_disagreement: OnDisagreement | None = None) -> Normalizer:
    """Raises ConfigurationError where vendors or tables are wrong.

    With ``on_disagreement`` one resource in ``cross_check_every`` goes through fhir.resources as well, as a standing
    check of the compiled validator; without, nothing is sampled, so that a run depends on its input alone.
    """
    return Normalizer(
        load_vendors(settings.vendors_file),
        Naming(settings.base, settings.server_base or ""),
        load_terminology(settings.terminology_dir),
        _checked(settings, on_disagreement),
    )


def _checked(settings: Settings, on_disagreement: OnDisagreement | None) -> Validator:
    checks = validator(settings.validation, on_disagreement or ignored)
    if on_disagreement is None or settings.validation != "spec" or not settings.cross_check_every:
        return checks
    return sampled(checks, settings.cross_check_every, on_disagreement)
