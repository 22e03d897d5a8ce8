"""Server-sent events: pages that stay open get what changes."""

from aiohttp import web


async def open_stream(request: web.Request) -> web.StreamResponse:
    """Begin the answer that events are written to."""
    stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await stream.prepare(request)
    return stream


def encoded(text: str, id: str = "", retry_ms: int | None = None) -> bytes:
    r"""Encode an event. ``id``: what the browser names when it comes back, ``retry_ms`` after the stream has ended.

    >>> encoded("a\nb", "7", 1000)
    b'id: 7\nretry: 1000\ndata: a\ndata: b\n\n'
    """
    head = (f"id: {id}\n" if id else "") + (f"retry: {retry_ms}\n" if retry_ms is not None else "")
    lines = "".join(f"data: {line}\n" for line in text.splitlines())
    return f"{head}{lines}\n".encode()
