"""Erasure of a patient: what is written, what remains, and what keeps a replay from undoing it.

``find`` finds everything of a patient, ``records`` makes tombstones, DELETE Bundles and the Provenance, and ``forget``
writes them in an order that a crash cannot break. Keyed hashes of erased patients, which worker, replay and enrichment
read, are in ``streams/step3_restore/erasure_list.py``. docs/erasure.md is the operator's view.
"""
