"""Places of the golden cases' bodies, each once, and bodies with a value planted at one of them."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.support.cases import Case, cases
from tests.support.mutations import places

_TYPES = ("type", "event_type", "eventName", "event")


@dataclass(frozen=True)
class Place:
    """A place in a golden case's body. ``path``: the keys and positions that lead to it; empty for the body itself."""

    case: Case
    event: int
    path: tuple[str | int, ...]

    @property
    def name(self) -> str:
        pointer = "".join(f"/{step}" for step in self.path)
        return f"{self.case.vendor}/{self.case.name}#{self.event}{pointer}"

    def bodies(self, planted: Any) -> list[dict[str, Any]]:
        """Return bodies with a value in every way that the place allows: instead of what is there, beside and behind.

        An object gets new members, a list a further item. A text is also put behind another, and into a sentence.
        """
        return [self._with(new) for new in _ways(self.value, planted) if self.path or isinstance(new, dict)]

    @property
    def value(self) -> Any:
        value: Any = self.case.events[self.event]
        for step in self.path:
            value = value[step]
        return value

    def _with(self, new: Any) -> dict[str, Any]:
        whole: dict[Any, Any] = {"": self.case.events[self.event]}
        above: Any = whole
        for step in ("", *self.path[:-1]) if self.path else ():
            above[step] = copy.copy(above[step])
            above = above[step]
        above[self.path[-1] if self.path else ""] = new
        body: dict[str, Any] = whole[""]
        return body


def _ways(was: Any, planted: Any) -> Iterator[Any]:
    if was or not isinstance(was, dict):
        yield planted
    if isinstance(was, dict):
        yield {**was, **planted} if isinstance(planted, dict) else {**was, "extra": planted}
    elif isinstance(was, list):
        yield [*was, planted]
    elif isinstance(was, str) and isinstance(planted, str):
        yield f"{was} {planted}"
        yield f"Note. {planted}. Rest."


@cache
def places_of(vendor: str) -> tuple[Place, ...]:
    """Return the places of a vendor's golden cases, one of those that are alike.

    Alike are places of one event type and path, without the positions in lists, that hold values of one type.
    """
    found: dict[tuple[Any, ...], Place] = {}
    for case in cases():
        if case.vendor != vendor:
            continue
        for event, body in enumerate(case.events):
            sort = case.route_event or next((str(body[key]) for key in _TYPES if body.get(key)), "")
            for path in ((), *places(body)):
                place = Place(case, event, path)
                pattern = tuple("*" if isinstance(step, int) else step for step in path)
                found.setdefault((sort, pattern, type(place.value)), place)
    return tuple(found.values())
