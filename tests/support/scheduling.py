"""The order in which the processes of pytest-xdist take tests, so that no core of the machine is idle.

Most tests that use a broker wait, most of those of the mappings compute. One kind after the other, the former leave the
processor idle and the latter compete for it.
"""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadGroupScheduling
from xdist.workermanage import WorkerController

FROM_THE_END = 4
"""One of so many processes takes the last tests first, which compute. The others take the first ones, which wait."""


class FromBothEnds(LoadGroupScheduling):  # type: ignore[misc]
    """Give groups of tests to processes in the order of the collection, and to some processes in the reverse order."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        self._reverse = {f"gw{number}" for number in range(self.numnodes // FROM_THE_END)}

    def _assign_work_unit(self, node: WorkerController) -> None:
        if node.gateway.id in self._reverse:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        """Forget a group that has ended: all groups of a process are counted after each of its tests."""
        super().mark_test_complete(node, item_index, duration)
        group = self._split_scope(self.registered_collections[node][item_index])
        if all(self.assigned_work[node][group].values()):
            del self.assigned_work[node][group]
