"""Step 4: a raw record (``raw_event``) is mapped to all records that are made of it (``map_event``).

``dead_letter`` makes the record of an event, or of a resource, that failed. Next: ``step5_publish`` writes them all.
"""
