"""Step 5: all records that follow from a batch are written in one barrier (``publish``).

It is the last step: afterwards ``step2_consume`` commits the batch's offsets. ``deliver`` and ``tables`` read the
records that are written here.
"""
