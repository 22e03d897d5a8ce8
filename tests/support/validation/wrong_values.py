"""Values that the mutants put in the place of others: wrong ones, and right ones beside them."""

from typing import Any

DATES = [
    "2024-02-30",
    "2023-02-29",
    "2024-02-29",
    "2024-13-01",
    "2024-5-3",
    "2024",
    "2024-05",
    "0000-01-01",
    "yesterday",
    "20240503",
    "2024-05-03T10:00:00",
    "2024-05-03T25:00:00Z",
    "2024-05-03T10:00Z",
    "2016-12-31T23:59:60Z",
    "2024-05-03T10:00:00+15:00",
    "2024-05-03T10:00:00.123456789Z",
    "1900-02-29",
    "2000-02-29",
    "10:00:00",
    "24:00:00",
]
CODES = ["done", "Final", " final", "final ", "a  b", "a b", "final\u00a0", "?", "x" * 300, "completed", "active"]
REFERENCES = [
    "Patient",
    "Foo/1",
    "Medication/1",
    "Patient/1",
    "Patient/a b",
    "#x",
    "#",
    "https://other.example.org/fhir/Patient/1",
    "https://other.example.org/fhir/Slot/1",
    "urn:uuid:2cb0d7ff-6a1c-4b1b-9d4b-6a5d1b0c7f11",
    "urn:uuid:x",
    "Patient/" + "x" * 65,
    "Patient/1/_history/2",
]
IDS = ["x" * 65, "a b", "ä", "a_b", "", "ok-1.2", "a\n"]
NUMBERS = [1.5, -1, 2**31, -(2**31) - 1, 10**20, 0, "3", True, 1e-7, -0.5]
TEXTS = [
    "\u00a0",
    " ",
    "\n",
    "a\u2028b",
    "",
    "<script>",
    "a" * 500,
    "{}",
    "null",
    "[]",
    '""',
    "javascript:x",
    "http://[x",
]
DIVS = [
    '<div xmlns="http://www.w3.org/1999/xhtml"><script>x()</script></div>',
    '<div xmlns="http://www.w3.org/1999/xhtml"><p onclick="x()">x</p></div>',
    '<div xmlns="http://www.w3.org/1999/xhtml"> </div>',
    '<div xmlns="http://www.w3.org/1999/xhtml"><p>x</div>',
    "<div>x</div>",
    "plain",
    '<div xmlns="http://www.w3.org/1999/xhtml"><table><tr><td>x</td></tr></table></div>',
]
RETYPED: list[Any] = [True, False, 0, 1, 7.25, "yes", "true", "3", [], {}, None, "", ["x"], {"x": 1}, '{"text": "x"}']
