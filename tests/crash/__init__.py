"""Nothing is lost and nothing stale is written, whatever is killed, paused or refused.

Each test ends by comparing the canonical topics with what one undisturbed run over the raw topics makes, and prints the
figures. `make test-long` runs the small form. `make crash` runs the long form, with options: ``make crash EVENTS=20000
KILLS=20 SEED=1``. `make soak` runs for hours.
"""
