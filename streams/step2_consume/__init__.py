"""Step 2: a Faust worker (``app``) reads raw records in batches and calls steps 3 to 5 for each (``batch``).

``faust`` has what replaces parts of Faust: which offsets are committed, and which record comes next (``offsets``).
Before: ``step1_receive`` writes the raw records. Next: ``step3_restore`` restores the state that a batch needs.
"""
