"""Lanes: work with a common lane is done one after the other, in the order of arrival (fhir-delivery.md §2).

The invariant: **of two pieces of work with a common lane, the later one begins after the earlier one is done.** So at
most one request of a patient is in flight, and a patient's Bundles are sent in the order in which they were written.
"""

from collections import deque
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

Work = TypeVar("Work", bound=Hashable)


class Lanes(Generic[Work]):
    """The queues of all lanes.

    >>> lanes: Lanes[int] = Lanes()
    >>> lanes.add(1, {"a"}), lanes.add(2, {"a", "b"}), lanes.add(3, {"b"}), lanes.add(4, {"c"})
    (True, False, False, True)
    >>> lanes.done(1), lanes.done(2), lanes.done(3)
    ([2], [3], [])
    """

    def __init__(self) -> None:
        self._queues: dict[str, deque[Work]] = {}
        self._lanes: dict[Work, frozenset[str]] = {}

    def __len__(self) -> int:
        return len(self._lanes)

    def add(self, work: Work, lanes: Iterable[str]) -> bool:
        """Add work at the end of its lanes; tell whether it may begin now."""
        named = self._lanes[work] = frozenset(lanes)
        for lane in named:
            self._queues.setdefault(lane, deque()).append(work)
        return self._first(work)

    def done(self, work: Work) -> list[Work]:
        """Remove work that is done; return what may begin now."""
        behind: dict[Work, None] = {}
        for lane in sorted(self._lanes.pop(work)):
            queue = self._queues[lane]
            queue.remove(work)
            if queue:
                behind[queue[0]] = None
            else:
                del self._queues[lane]
        return [item for item in behind if self._first(item)]

    def _first(self, work: Work) -> bool:
        return all(self._queues[lane][0] is work for lane in self._lanes[work])
