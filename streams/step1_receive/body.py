"""Read a webhook's body, up to a size and within a time. Bodies of unknown senders are bounded together.

A signature (``hmac-sha256``) covers the body, so the body is read before the sender is known. A stranger could make the
gateway hold as many bodies as it accepts connections. `UnverifiedBodies` bounds them for each vendor.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from types import TracebackType
from typing import Self

from aiohttp import StreamReader

from fhirline.config.errors import FhirlineError


class BodyTooLarge(FhirlineError):
    """The body is larger than the limit."""


class Displaced(FhirlineError):
    """The body was given up, before its signature could be checked, for those that came after it."""


class UnverifiedBodies:
    """The bodies of each vendor that are being read before their signature is checked.

    At the limit (``bodies``, or ``size`` bytes together) the oldest is given up. A body of an honest sender is read
    within moments, while one that is sent to occupy the gateway is held for as long as it may last.
    """

    def __init__(self, bodies: int, size: int) -> None:
        self.bodies = bodies
        self.size = size
        self.held: defaultdict[str, list[UnverifiedBody]] = defaultdict(list)

    def body(self, vendor: str, seconds: float) -> "UnverifiedBody":
        """Return the context in which one body of ``vendor`` is read, within ``seconds``."""
        return UnverifiedBody(self, self.held[vendor], seconds)


class UnverifiedBody:
    """An asynchronous context. Raises TimeoutError, or Displaced where the body was given up."""

    def __init__(self, limits: UnverifiedBodies, held: "list[UnverifiedBody]", seconds: float) -> None:
        self._limits = limits
        self._held = held
        self._timer = asyncio.timeout(seconds)
        self._displaced = False
        self._bytes = 0

    async def __aenter__(self) -> Self:
        await self._timer.__aenter__()
        self._held.append(self)
        self._make_room()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self in self._held:
            self._held.remove(self)
        try:
            await self._timer.__aexit__(kind, error, at)
        except TimeoutError:
            if self._displaced:
                raise Displaced from None
            raise

    def add(self, size: int) -> None:
        """Count bytes that were read. Raises Displaced where this body is the oldest and there is no room for it."""
        self._bytes += size
        self._make_room()
        if self._displaced:
            raise Displaced

    def _make_room(self) -> None:
        while self._held and (
            len(self._held) > self._limits.bodies or sum(item._bytes for item in self._held) > self._limits.size
        ):
            self._held.pop(0)._give_up()

    def _give_up(self) -> None:
        self._displaced = True
        if not self._timer.expired():
            self._timer.reschedule(asyncio.get_running_loop().time())


async def read_up_to(
    content: StreamReader, limit: int, read: Callable[[bytes], None], counted: Callable[[int], None] | None = None
) -> bytes:
    """Read a body to its end; pass each part to ``read`` and its size to ``counted``.

    Raises BodyTooLarge beyond ``limit`` bytes.
    """
    body = bytearray()
    async for chunk in content.iter_any():
        if len(body) + len(chunk) > limit:
            raise BodyTooLarge
        if counted is not None:
            counted(len(chunk))
        read(chunk)
        body += chunk
    return bytes(body)
