"""Never losing, proven by tests that count (issue 4): whatever is killed, paused or refused, and then compared.

Each test ends by comparing raw with canonical topics, and prints the figures. `make test` runs the small form after all
else, `make crash` the long one, with options: ``make crash EVENTS=20000 KILLS=20 SEED=1``; `make soak` is the long run.
"""
