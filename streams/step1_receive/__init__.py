"""Step 1: a webhook (``application``) or a line of a file (``files``) becomes a record of ``raw.<vendor>``.

Both go through ``raw_record``, so that an event gets the same key, value and headers either way.
"""
