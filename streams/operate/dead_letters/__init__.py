"""Dead letters after they were written: read, grouped, sent through the mapping again, exported."""
