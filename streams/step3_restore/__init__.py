"""Step 3: the state of a batch's partitions (``state``) and the list of erased patients (``erasure_list``) are read.

Committed offsets are read in step 2, in ``streams/step2_consume/faust/offsets.py``.
Next: ``step4_normalize`` maps the batch's events with this state.
"""
