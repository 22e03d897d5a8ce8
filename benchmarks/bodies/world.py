"""The history before an event of the mix, and the values that are drawn for it."""

import random
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

Body = dict[str, Any]

SENTENCES = (
    "Dry cough for four days, no fever.",
    "Sleeps badly since last week and feels tired in the morning.",
    "No shortness of breath when speaking; speaks in full sentences.",
    "Probably a viral upper airway infection without signs of complication.",
    "Rest, fluids; call again if fever or chest pain appears.",
    "Continue the current treatment unchanged and check again in two weeks.",
    "Asks whether the inhaler may be continued during travel.",
    "Technique shown on camera, correct.",
    "Se recomienda control por su médico de cabecera si los síntomas persisten.",
    "يُنصح بشرب السوائل والراحة.",
)


@dataclass(slots=True)
class Consultation:
    """A consultation of Altibbi: ``status`` counts its status updates, from -1 for none."""

    id: int
    user: int
    status: int = -1
    recommended: bool = False


@dataclass(slots=True)
class World:
    """The history so far."""

    rng: random.Random
    patients: int
    now: datetime
    open: list[Consultation] = field(default_factory=list)
    consultations: int = 900_000
    mediquo: list[int] = field(default_factory=list)

    def time(self) -> str:
        return self.now.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def local(self, minutes: int) -> str:
        return (self.now - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%S")

    def patient(self) -> int:
        return self.rng.randrange(self.patients)

    def id(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def some(self, of: tuple[Any, ...], least: int, most: int) -> list[Any]:
        return self.rng.sample(of, self.rng.randint(least, most))

    def prose(self, least: int = 1, most: int = 4) -> str:
        return " ".join(self.some(SENTENCES, least, most))

    def altibbi_consultation(self) -> Consultation:
        """A consultation that goes on, or a new one."""
        if len(self.open) > 200 or (self.open and self.rng.random() < 0.6):
            return self.rng.choice(self.open)
        self.consultations += 1
        self.open.append(Consultation(self.consultations, 50_000 + self.patient()))
        return self.open[-1]
