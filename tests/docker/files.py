"""The files of ``docker/``, read once."""

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.support.paths import DOCKER

COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("topics", "gateway", "worker", "enrich", "deliver", "tables", "tables-research", "tools")
EXAMPLE = (DOCKER / ".env.example").read_text("utf-8")
VARIABLE = re.compile(r"\$\{(\w+)(?::([?-])([^}]*))?\}")


def instructions(dockerfile: str) -> Iterator[tuple[str, str]]:
    """Each instruction of a Dockerfile with its arguments, continued lines joined, comments left out."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name, rest.strip()


DOCKERFILE = list(instructions((DOCKER / "Dockerfile").read_text("utf-8")))
IMAGE = dict(part.split("=", 1) for name, rest in DOCKERFILE if name == "ENV" for part in rest.split())


def image(instruction: str) -> list[str]:
    """The JSON form of the result's last ENTRYPOINT, CMD or HEALTHCHECK."""
    last = [rest for name, rest in DOCKERFILE if name == instruction][-1]
    found: list[str] = json.loads(last[last.index("[") :])
    return found
