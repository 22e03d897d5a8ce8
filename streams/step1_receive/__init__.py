"""Step 1: a webhook (``application``) or a line of a file (``files``) becomes a record of ``raw.<vendor>``.

Both ways go through ``raw_record``, so that key, value and headers are the same whichever way an event came.
"""
