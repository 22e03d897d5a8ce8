"""Outputs of one event: each resource gets meta and narrative, is validated, and is serialized."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import orjson

from fhirline.mappers.context import Context
from fhirline.mappers.fhir.narratives import identifiers, narrated
from fhirline.mappers.fhir.validation import Problem, Validator
from fhirline.mappers.pipeline import common_resources
from fhirline.mappers.pipeline.folding import DraftSet
from fhirline.mappers.pipeline.limits import STRING_CUT, TooComplex, shortened
from fhirline.mappers.results import BuiltResource, Element, Flag, Refused, Resource, Version
from fhirline.topics.declared import PATIENTLESS_TYPES


class Output(NamedTuple):
    """A valid resource and its bytes.

    ``key`` is ``Type/id``. ``partition_by`` is the text that its partition is computed from. ``constant``: the per-type
    topic does not need it again where the same bytes were published before (mapping.md §3.1).
    """

    resource: Resource
    key: str
    value: bytes
    partition_by: str
    version: Version
    constant: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """A resource that was not published: the content of a dead letter.

    ``code`` is ``resource-refused`` (the event lacks what the resource requires) or ``resource-invalid`` (a defect of
    the mapping).
    """

    code: str
    resource_type: str
    problems: tuple[Problem, ...]

    @classmethod
    def of(cls, refused: Refused) -> "Refusal":
        """Make a Refusal that names, as JSON Pointers, where the event lacks what the resource requires."""
        flag = refused.flag
        message = "Without this the resource cannot be made validly"
        problems = tuple(Problem(pointer, flag.code, message) for pointer in flag.at)
        return cls("resource-refused", refused.resource_type, problems)

    def with_paths(self, shown: Callable[[str], str]) -> "Refusal":
        """Return the Refusal with each JSON Pointer replaced by the part of it that may be shown."""
        return replace(self, problems=tuple(replace(problem, path=shown(problem.path)) for problem in self.problems))


class OutputBuilder:
    """Makes the outputs of one event; raises TooComplex where their bytes exceed ``most_bytes`` (mapping.md §1.1).

    A resource that fails validation becomes a Refusal, its key (``Type/id``) is added to ``invalid``, and the event's
    other resources are published.
    """

    __slots__ = (
        "_context",
        "_drafts",
        "_left",
        "_metas",
        "_partition",
        "_patients",
        "_validate",
        "invalid",
        "raw_key",
        "refusals",
    )

    def __init__(
        self, context: Context, validate: Validator, raw_key: str, drafts: DraftSet, most_bytes: int = sys.maxsize
    ) -> None:
        self.raw_key = raw_key
        self._left = most_bytes
        self.refusals: list[Refusal] = []
        self.invalid: set[str] = set()
        self._context, self._validate, self._drafts = context, validate, drafts
        self._partition = f"{context.envelope.vendor}|{raw_key}"
        narratives = context.settings.narratives
        self._patients = identifiers(draft.resource for draft, _ in drafts.drafts) if narratives else None
        self._metas: dict[Any, Element] = {}

    def of_draft(self, draft: BuiltResource, constant: bool) -> Output | None:
        """Make the output of a draft, with its meta. Drafts of one event share metas, so that each is made once."""
        codes = tuple([flag.code for flag in draft.flags])
        security = tuple([(label["system"], label["code"]) for label in draft.security])
        signature = (codes, draft.event_independent, draft.ai, security, draft.source)
        meta = self._metas.get(signature)
        if meta is None:
            meta = self._metas[signature] = common_resources.meta(
                self._context,
                codes,
                event_independent=draft.event_independent,
                ai=draft.ai,
                security=draft.security,
                source=draft.source,
            )
        return self.of_resource(draft.resource, meta, draft.version, constant)

    def of_resource(self, resource: Resource, meta: Element, version: Version, constant: bool = False) -> Output | None:
        """Make the output of a resource: set its meta and, if the tenant wants it, its narrative (mapping.md §13)."""
        resource["meta"] = meta
        if self._patients is not None:
            resource = narrated(resource, self._patients)
        return self._check(resource, version, constant)

    def of_bundle(self, outputs: Sequence[Output]) -> Output | None:
        """Make the event's transaction Bundle of its outputs, in their order."""
        bundle = common_resources.bundle(self._context, [(output.key, output.value) for output in outputs])
        distinct = len({output.key for output in outputs}) == len(outputs)
        to_check = common_resources.with_first_entry(bundle) if distinct else common_resources.without_resources(bundle)
        return self._check(bundle, self._context.version, to_check=to_check)

    def _check(
        self, resource: Resource, version: Version, constant: bool = False, to_check: Resource | None = None
    ) -> Output | None:
        """Validate ``to_check`` (by default the resource) and serialize the resource; None if it is invalid."""
        resource_type = resource["resourceType"]
        key = f"{resource_type}/{resource['id']}"
        problems = self._validate(to_check or resource)
        if problems and to_check is None:
            resource, long = shortened(resource)
            if long:
                self._drafts.flags.append(Flag(STRING_CUT, tuple(f"{resource_type}.{path}" for path in long)))
                problems = self._validate(resource)
        if problems:
            self.refusals.append(Refusal("resource-invalid", resource_type, tuple(problems)))
            self._drafts.flags.append(Flag("resource-invalid", tuple(problem.path for problem in problems)))
            self.invalid.add(key)
            return None
        partition_by = key if resource_type in PATIENTLESS_TYPES else self._partition
        value = orjson.dumps(resource)
        if to_check is None:  # a Bundle has the bytes of its resources, which were counted
            self._left -= len(value)
            if self._left < 0:
                raise TooComplex("bytes", resource_type)
        return Output(resource, key, value, partition_by, version, constant)
