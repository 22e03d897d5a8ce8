"""Erasure of a patient: what is written, what stays until its retention ends, what keeps a replay from undoing it.

``block``: keyed hashes of erased patients, which worker, replay and enrichment ask; ``find``: what there is of a
patient; ``departure``: the DELETE Bundle and its Provenance; ``forget``: the order of it all. docs/erasure.md is the
operator's view.
"""
