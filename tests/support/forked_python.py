"""Run code as ``python -c CODE`` would, in a process that the server of commands forks.

pytest-xdist starts its processes by this (`tests.conftest`). They have all modules of fhirline imported, the tables
read, the patterns of secrets compiled and the validator's models built, which takes each process two seconds.
"""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])
    from tests.support.cli import Forked

    running = Forked(code=sys.argv[-1], files=(0, 1, 2), env=os.environ, cwd=os.getcwd())
    for file in (0, 1):  # their other ends see the end of the process itself
        os.close(file)
    code = running.wait()
    sys.exit(code if code >= 0 else 128 - code)
