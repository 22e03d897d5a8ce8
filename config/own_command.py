"""Start another process of this program, whatever the name and place of its script."""

import sys


def own_command(*arguments: str) -> list[str]:
    """Return the command line of ``fhirline`` with these arguments, run by this process's interpreter."""
    return [sys.executable, "-c", "from fhirline.streams.cli import main; main()", *arguments]
