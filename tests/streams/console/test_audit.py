"""The page of the audit lines: what it shows of a line, and that memory is bounded."""

import re

from fhirline.streams.observe import audit
from tests.streams.console.conftest import SCRIPT, Site
from tests.streams.console.test_access import event_page
from tests.support.console_pages import Visitor, console


def test_a_line_is_shown_with_its_person_reason_and_event(stack: Site) -> None:
    with console(stack.load.settings, FHIRLINE_CONSOLE_USER_HEADER="x-user") as (url, _):
        visitor = Visitor(url, {"x-user": SCRIPT})
        visitor.get("/")
        assert "None." in visitor.get("/audit").text
        page = event_page(visitor, stack)
        reason = f"ticket {SCRIPT}"
        assert visitor.post(f"{page}/reveal", reason=reason, **{"form-token": visitor.form_token(page)}).status == 200
        text = visitor.get("/audit").text
        assert SCRIPT not in text
        assert text.count("<script") == 1
        assert "ticket &lt;script&gt;" in text
        assert re.search(r"<td>raw event revealed</td><td>&lt;script&gt;", text)
        assert f'href="/events?q={stack.planted.position}"' in text
        assert "each process writes its own lines to its log" in text


def test_a_bounded_number_of_lines_is_kept() -> None:
    for number in range(audit.KEPT + 5):
        audit.audit("tested", by="test", name=None, number=str(number))
    lines = audit.lines()
    assert len(lines) == audit.KEPT
    assert lines[-1].fields == {"number": str(audit.KEPT + 4)}
