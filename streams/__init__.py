"""The Kafka shell around the mappers. One event passes these rooms, in this order:

1. ``step1_receive``: the gateway takes a webhook, checks its credential, redacts secrets, writes one record to
   ``raw.<vendor>`` and answers 202. ``fhirline ingest`` does the same for the lines of a file.
2. ``step2_consume``: a Faust worker reads raw records in batches and calls steps 3 to 5 for each batch. Then it commits
   the batch's offsets.
3. ``step3_restore``: the state of the batch's partitions is restored from its topic, and the list of erased patients is
   read.
4. ``step4_normalize``: each raw record is mapped to the records that are made of it: resources, a Bundle, an outcome,
   state updates, and a dead letter for what failed.
5. ``step5_publish``: all records of the batch are written in one barrier. If Kafka does not acknowledge them all, the
   worker ends without committing.

Other stages: ``enrich`` completes Infermedica's thin events between steps 1 and 2. ``deliver`` sends the Bundles to a
FHIR server. ``tables`` keeps SQL tables of the resources.

Around them: ``operate`` has the operator's commands (replay, dead letters, erasure, export, keys, trace, status,
doctor). ``console`` shows pages in a browser. ``demo`` runs everything on one machine. ``authoring`` writes the first
version of a vendor's mapping. ``cli`` has a module for each command. ``http``, ``kafka`` (clients, records) and
``observe`` (logs, metrics, traces) are below all of them.
"""
