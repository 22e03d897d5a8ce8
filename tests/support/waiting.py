"""How long tests wait for a condition."""

LIMIT = 240.0
"""Seconds after which a condition counts as never met. Only a hang takes so long: a process that ended is noticed at
once, and a machine with twenty times the load it can carry still starts a worker in less. A test may take longer as a
whole (``timeout`` in pyproject.toml)."""
