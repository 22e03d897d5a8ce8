"""Replay: map raw events again with the present mapping, beside the live consumer group and without joining it.

A run passes these modules in order:

1. ``selection``: which events a run maps.
2. ``offset_ranges``: where they are.
3. ``topic_index``: what the canonical topics contain.
4. ``remap``: map a partition, in a process of its own, into its ``journal``. ``practitioners`` folds over partitions.
5. ``compare``: find what differs.
6. ``publish``: write what differs. ``bundles`` sends the transaction Bundles of the range.

``run`` keeps a run's folder, so that a run can be stopped and resumed. ``progress`` is what a run reports while it
works, ``view`` what it reports at the end. docs/replay.md is the operator's view.

Replay depends on two properties. Mapping is pure. The *last* value of a key follows from the set of events, not from
their order. So only last values are compared and published; values that the mapping made in between are discarded.
"""
