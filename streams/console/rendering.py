"""Pages from templates. Every value is escaped; a template that names a missing value fails."""

import re
from datetime import UTC, datetime
from statistics import median
from typing import Any

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

from fhirline.streams.console.access import FORM_TOKEN, SESSION, page_of
from fhirline.streams.console.console import CONSOLE
from fhirline.streams.observe.terminal import counted

NAVIGATION = (
    ("/", "Pipeline"),
    ("/events", "Events"),
    ("/patients", "Patients"),
    ("/dead-letters", "Dead letters"),
    ("/changes", "Changes"),
    ("/playground", "Playground"),
    ("/terminology", "Terminology"),
    ("/audit", "Audit"),
)


def _number(value: float | None) -> str:
    """Write a count with thousands separators; an unknown one as a dash."""
    return "–" if value is None else f"{value:,.0f}"


def _counted(value: float | None, thing: str, things: str = "") -> str:
    """Write a count and what it counts, as `counted`; an unknown one as a dash."""
    return f"– {things or f'{thing}s'}" if value is None else counted(round(value), thing, things)


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}"


def _seconds(value: float | None) -> str:
    """Write a latency with the digits that matter.

    >>> [_seconds(value) for value in (None, 0.0421, 3.21, 86_400.0)]
    ['–', '42 ms', '3.2 s', '1 d']
    """
    if value is None or value >= 60:
        return _age(value)
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def _age(seconds: float | None) -> str:
    """Write a time span in its largest unit.

    >>> [_age(value) for value in (None, 0.4, 75, 7200, 200_000)]
    ['–', '0 s', '1 min', '2 h', '2 d']
    """
    if seconds is None:
        return "–"
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _instant(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "–"
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") + " UTC"


def _moment(text: str) -> str:
    """Leave out the zeros of a time's fraction.

    >>> _moment("2024-06-03T08:00:00.000000Z to 2024-06-03T08:04:00.120000Z")
    '2024-06-03T08:00:00Z to 2024-06-03T08:04:00.12Z'
    """
    return re.sub(r"(:\d\d)(?:(\.\d*[1-9])0+|\.0+)(?=Z|[+-])", r"\1\2", text, flags=re.ASCII)


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("fhirline.streams.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": _number,
        "counted": _counted,
        "rate": _rate,
        "age": _age,
        "seconds": _seconds,
        "instant": _instant,
        "moment": _moment,
        "median": median,
    }
    return made


TEMPLATES = _environment()


def page(request: web.Request, template: str, http_status: int = 200, **values: Any) -> web.Response:
    """Render a page, or a part of one, for the visitor."""
    session = request.get(SESSION)
    shared = {
        "navigation": NAVIGATION if session else (),
        "path": request.path,
        "form_token": session.form_token if session else "",
        "form_token_name": FORM_TOKEN,
        "form_page": page_of(request),
        "user": session.user if session else None,
        "bootstrap": request.app[CONSOLE].settings.bootstrap,
    }
    text = TEMPLATES.get_template(template).render(shared | values)
    return web.Response(text=text, content_type="text/html", charset="utf-8", status=http_status)
