"""Export: the newest resources of the canonical topics as files, FHIR NDJSON and Parquet.

An export passes these modules in order:

1. ``request``: what is exported, and the journal by which a stopped export goes on.
2. ``newest``: the newest record of each key of a partition.
3. ``ndjson`` and ``parquet``: the files.
4. ``manifest``: what an export contains, as FHIR's Bulk Data describes it.

``run`` leads through them. docs/warehouse.md is for those who read the files.
"""
