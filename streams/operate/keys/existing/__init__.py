"""Encryption of what was written before encryption was on: ``fhirline keys encrypt-existing`` (decision 0009).

Copies go into the topics that they come from, behind the last record. The phases, in this order:

1. `survey`: each raw partition's end is fixed, and everything before its last plain record is to be copied.
2. `copying`: an encrypted copy of each of those records, with the header ``copy-of``.
3. `verify`: counts and digests of records and copies, per partition.
4. `waiting`: the workers and the enrichment have read the copies. The workers' output names the copies now.
5. The same for dead letters, then `marks`: their status under the copies' positions.
6. `state`: encrypted entries instead of plain ones.
7. `deletion`: the records that were copied are removed.

All progress is derived from the topics, so that the command can be killed at any moment and run again.
"""
