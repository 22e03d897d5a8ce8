"""Build the normalizer of a deployment: the pure core with the operator's settings."""

from fhirline.config.settings import Settings
from fhirline.config.terminology import load_terminology
from fhirline.config.vendors import load_vendors
from fhirline.mappers.fhir.validation import OnDisagreement, Validator, ignored, sampled, validator
from fhirline.mappers.identity import Naming
from fhirline.mappers.pipeline.limits import Limits
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
        limits(settings),
    )


def limits(settings: Settings) -> Limits:
    """Return the limits of one event that the settings give (mapping.md §1.1)."""
    return Limits(
        values=settings.max_event_values,
        items=settings.max_list_items,
        resources=settings.max_event_resources,
        bytes=settings.max_event_bytes,
        kept=settings.max_kept_values,
        kept_bytes=settings.max_kept_bytes,
        state=settings.max_state_entries,
    )


def _validator(settings: Settings, on_disagreement: OnDisagreement | None) -> Validator:
    checks = validator(settings.validation, on_disagreement or ignored)
    if on_disagreement is None or settings.validation != "spec" or not settings.cross_check_every:
        return checks
    return sampled(checks, settings.cross_check_every, on_disagreement)
