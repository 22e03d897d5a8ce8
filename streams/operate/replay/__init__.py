"""Replay: raw events mapped again, by the mapping of today, beside the live group and never in it.

The journey: ``selection`` (which events), ``spans`` (where they lie), ``held`` (what the topics hold), ``remap`` (maps
a partition, in a process of its own, into its ``journal``), ``compare`` (what differs), ``publish`` (and makes it so).
``run`` keeps a run's folder, so that it can be stopped and resumed. docs/replay.md is the operator's view.

What all of it rests on: mapping is pure, and the *last* value under a key follows from the set of events and not from
their order. So only last values are compared and only last values go out; what the mapping made in between is nobody's.
"""
