"""The disguises in which tests plant a secret in an event's body (mapping.md §7).

`REDACTED`: forms of a secret that no record may have, the raw event included. `WITHHELD`: forms that only the raw event
and a dead letter's value may have. A text is planted as a text, an object and a list also as members and items.
"""

import json
from base64 import b64encode, urlsafe_b64encode
from typing import Any
from urllib.parse import quote, urlencode

from fhirline.config.tables import secrets
from tests.support.secret_marks import DIGITS, SECRET, WIDE

_NAMES = {
    "as it is": "pass_code",
    "camel case": "PassCode",
    "upper case": "PASS_CODE",
    "a space": "pass code",
    "white space around": "\t pass_code \n",
    "space without a break": "pass\u00a0code",
    "wide space": "pass\u3000code",
    "line break": "pass\ncode",
    "zero width space": "\u200b".join("pass_code"),
    "zero width joiner": "pass\u200d_\u200dcode",
    "soft hyphen": "pa\u00adss_co\u00adde",
    "byte order mark": "\ufeffpass_code",
    "right-to-left mark": "pass\u200f_code",
    "invisible separator": "pass\u2063code",
    "variation selector": "pass\ufe0fcode",
    "tag characters": "pass\U000e0020code",
    "Mongolian separator": "pass\u180ecode",
    "filler": "pass\u3164code",
    "full width": "".join(chr(ord(sign) + 0xFEE0) for sign in "pass_code"),
    "mathematical": "".join(chr(0x1D41A + ord(sign) - 97) if sign.isalpha() else sign for sign in "pass_code"),
    "encircled": "".join(chr(0x24D0 + ord(sign) - 97) if sign.isalpha() else sign for sign in "pass_code"),
    "squared": "".join(chr(0x1F130 + ord(sign) - 65) if sign.isalpha() else sign for sign in "PASS_CODE"),
    "small capitals": "\u1d18\u1d00\ua731\ua731_\u1d04\u1d0f\u1d05\u1d07",
    "superscript": "\u1d56\u1d43\u02e2\u02e2_\u1d9c\u1d52\u1d48\u1d49",
    "Cyrillic": "p\u0430ss_c\u043ede",
    "all Cyrillic": "\u0440\u0430\u0455\u0455_\u0441\u043e\u0501\u0435",
    "Greek": "p\u03b1ss_c\u03bfd\u03b5",
    "accents": "p\u00e1ss_c\u00f6d\u00e8",
    "combining marks": "p\u0336a\u0336s\u0336s\u0336_\u0336c\u0336o\u0336d\u0336e\u0336",
    "percent": "pass%5Fcode",
    "all percent": "".join(f"%{ord(sign):02x}" for sign in "pass_code"),
    "percent twice": "pass%255Fcode",
    "HTML": "pass&#95;code",
    "named reference": "pass&lowbar;code",
    "escapes": "p\\u0061ss\\x5fcode",
    "a number": "pass_code_2",
    "plural": "passCodes",
    "dots": "data.dispense.pass_code",
    "brackets": "data[pass_code]",
    "a path": "dispense/0/pass_code",
    "a pointer": "#/dispense/pass_code",
    "colon": "rx:pass_code",
    "longer": "userPassCodeValue",
    "dashes": "x--pass--code",
    "quotes": '"pass_code"',
    "typographic dash": "pass\u2013code",
    "hyphen without a break": "pass\u2011code",
}
"""The name of a redacted key in disguise."""

_SHAPES: dict[str, Any] = {
    "text": SECRET,
    "number": int(DIGITS),
    "list": [SECRET, 1],
    "list of lists": [[[SECRET]]],
    "nested": {"a": {"url": [SECRET]}},
    "key": {SECRET: 1},
    "key of a known name": {"value": {"code": {SECRET: {"id": SECRET}}}},
    "JSON": json.dumps({"v": SECRET}),
    "address": f"https://rx.example.org/{SECRET}",
    "pair": {"name": "medication", "value": SECRET},
}
"""What may be below a redacted key."""

_ONE = {"pass_code": SECRET}
_JSON = json.dumps(_ONE)
_XML = f"<rx><pass_code>{SECRET}</pass_code></rx>"


def _text_depth(levels: int) -> str:
    text = _JSON
    for _ in range(levels):
        text = json.dumps({"data": text})
    return text


_TEXTS = {
    "JSON": _JSON,
    "JSON in JSON": _text_depth(1),
    "JSON in JSON in JSON": _text_depth(2),
    "JSON five deep": _text_depth(5),
    "JSON in a string": json.dumps(_JSON),
    "JSON in a string thrice": json.dumps(json.dumps(json.dumps(_JSON))),
    "JSON in lists in texts": json.dumps([json.dumps([_JSON])]),
    "JSON behind a mark": f"\ufeff\u200b {_JSON}\n",
    "JSON with invisible signs": _JSON.replace("pass", "pa\u200bss"),
    "JSON in full width": _JSON.replace("pass_code", _NAMES["full width"]),
    "JSON escaped": _JSON.replace("_", "\\u005f"),
    "JSON that is cut": _JSON[:-2],
    "JSON in a sentence": f"Result {_JSON}, thanks.",
    "JSON with a comma too many": f'{{"pass_code": "{SECRET}",}}',
    "JSON with a comment": f'{{"pass_code": "{SECRET}" /* once */}}',
    "JSON with NaN": f'{{"a": NaN, "pass_code": "{SECRET}"}}',
    "two documents": f'{{"a": 1}}\n{_JSON}',
    "a repeated key": f'{{"pass_code": "{SECRET}", "pass_code": ""}}',
    "single quotes": _JSON.replace('"', "'"),
    "typographic quotes": _JSON.replace('"', "\u201d"),
    "no quotes": f"{{pass_code: {SECRET}}}",
    "JavaScript": f"{{pass_code: '{SECRET}'}}",
    "JSON with slashes": _JSON.replace('"', '\\"'),
    "JSON in percent": quote(_JSON),
    "JSON in percent twice": quote(quote(_JSON)),
    "JSON in HTML": _JSON.replace('"', "&quot;"),
    "JSON in HTML twice": _JSON.replace('"', "&amp;quot;"),
    "JSON in an address": f"https://example.org/r?data={quote(_JSON)}",
    "JSON in base64": b64encode(_JSON.encode()).decode(),
    "JSON in base64 twice": b64encode(b64encode(_JSON.encode())).decode(),
    "JSON in base64 of UTF-16": b64encode(_JSON.encode("utf-16")).decode(),
    "JSON in base64 in JSON": json.dumps({"data": urlsafe_b64encode(_JSON.encode()).decode().rstrip("=")}),
    "base64 in an address": f"data:application/json;base64,{b64encode(_JSON.encode()).decode()}",
    "label in base64": b64encode(f"pass code: {SECRET}".encode()).decode(),
    "label in hex": f"pass_code={SECRET}".encode().hex(),
    "form": urlencode({"n": 7, **_ONE}),
    "form of a path": urlencode({"data[dispense][url]": SECRET}),
    "query": f"https://example.org/r?{urlencode(_ONE)}#top",
    "matrix": f"https://example.org/r;pass_code={SECRET}/x",
    "path": f"https://example.org/pass_code/{SECRET}",
    "XML": _XML,
    "XML with a prefix": f"<a:pass_code a:b='1'>{SECRET}</a:pass_code>",
    "XML, CDATA": f"<pass_code><![CDATA[{SECRET}]]></pass_code>",
    "XML, attribute": f'<rx pass_code="{SECRET}"/>',
    "XML, name and value": f'<e key="pass_code" value="{SECRET}"/>',
    "XML, elements": f"<name>pass_code</name><value>{SECRET}</value>",
    "XML in JSON": json.dumps({"xml": _XML}),
    "XML in base64": b64encode(_XML.encode()).decode(),
    "HTML table": f"<tr><th>pass_code</th><td>{SECRET}</td></tr>",
    "HTML list": f"<dt>Pass code</dt><dd>{SECRET}</dd>",
    "HTML, bold": f"<b>Pass code:</b> {SECRET}",
    "CSV": f"id,pass_code\n1,{SECRET}",
    "CSV, semicolon": f'"pass_code";"id"\n"{SECRET}";"1"',
    "tabs": f"id\tpass_code\n1\t{SECRET}",
    "Markdown table": f"| id | pass_code |\n|----|----|\n| 1 | {SECRET} |",
    "Markdown": f"**Pass code:** `{SECRET}`",
    "YAML": f"rx:\n  pass_code: {SECRET}\n",
    "YAML, below": f"pass_code:\n  at: noon\n  value: {SECRET}\n",
    "YAML, list": f"pass_code:\n- {SECRET}\n",
    "YAML, block": f"pass_code: |\n  {SECRET}\n",
    "INI": f"[pass_code]\nvalue = {SECRET}\n",
    "TOML": f'pass_code = "{SECRET}"\n',
    "Python": repr(_ONE),
    "Python, object": f"Rx(pass_code='{SECRET}')",
    "PHP": f"Array\n(\n    [pass_code] => {SECRET}\n)\n",
    "PHP, serialized": f'a:1:{{s:9:"pass_code";s:14:"{SECRET}";}}',
    "Ruby": f'{{"pass_code"=>"{SECRET}"}}',
    "SQL": f"INSERT INTO rx (id, pass_code) VALUES (1, '{SECRET}')",
    "header": f"X-Webhook-Secret: {SECRET}\r\nHost: example.org",
    "part of a form": f'Content-Disposition: form-data; name="pass_code"\r\n\r\n{SECRET}\r\n',
    "quoted-printable": f"pass=5Fcode=3D{SECRET}",
    "label": f"Pass code: {SECRET}",
    "label with a verb": f"The QR code is {SECRET}",
    "label with a dash": f"pass code \u2013 {SECRET}",
    "label with an arrow": f"pass_code -> {SECRET}",
    "label in full width": f"{_NAMES['full width']}\uff1a{SECRET}",
    "label, value in full width": f"pass_code: {WIDE}",
    "label, value with invisible signs": f"pass_code: {chr(0x200B).join(SECRET)}",
    "label with a remark": f"Pass code (today): {SECRET}",
    "command": f"curl --pass-code {SECRET}",
    "variable": f"export PASS_CODE='{SECRET}'",
}
"""Texts that have a secret beside the name of a redacted key."""

_NEIGHBOURS: dict[str, Any] = {
    "name and value": {"name": "pass_code", "value": SECRET},
    "value before its name": {"value": SECRET, "key": "PASS CODE"},
    "field and content": {"fieldName": "passCode", "fieldValue": SECRET},
    "question and answer": {"question": "QR code", "answer": SECRET},
    "numbered pair": {"0": "pass_code", "1": SECRET},
    "numbered list": {"3": "Host", "5": "pass_code", "10": SECRET},
    "mixed list": {"0": "pass_code", "1": SECRET, "note": "kept"},
    "pair": ["pass_code", SECRET],
    "pairs": [["pass_code", SECRET], ["qr_code", SECRET]],
    "flat list": ["Host", "example.org", "pass_code", SECRET],
    "table": {"columns": ["id", "pass_code"], "rows": [[1, SECRET]]},
    "rows": [["id", "pass_code"], [1, SECRET]],
    "split name": {"pass": {"code": SECRET}},
    "split in lists": {"pass": [{"code": [SECRET]}]},
    "split thrice": {"pusher": {"app": {"key": SECRET}}},
    "extension": {"url": "https://example.org/fhir/pass_code", "valueString": SECRET},
    "concept": {"code": {"text": "Pass code"}, "valueString": SECRET},
    "coding": {"code": {"coding": [{"code": "pass_code"}]}, "valueString": SECRET},
    "name before its value": [{"name": "pass_code"}, {"value": SECRET}],
    "JSON Patch": {"op": "add", "path": "/dispense/pass_code", "value": SECRET},
    "changed field": {"field": "pass_code", "from": SECRET, "to": SECRET},
    "parent as a value": {"name": "chatConfig", "value": {"token": SECRET}},
    "address for its parent": {"consultation": f"https://rooms.example.org/{SECRET}"},
    "parent of a list": {"consultation": [{"room": {"URL": SECRET}}]},
    "JSON as a key": {_JSON: 1},
    "form as a key": {urlencode(_ONE): 1},
    "label as a key": {f"pass code: {SECRET}": 1},
    "YAML as a key": {f"pass_code:\n  value: {SECRET}\n": 1},
    "markup as a key": {_XML: 1},
    "base64 as a key": {b64encode(_JSON.encode()).decode(): 1},
}
"""Objects and lists in which another place than the key names the secret."""


def _of_table() -> dict[str, Any]:
    """Return every redacted key, and every parent with the keys that are redacted below it."""
    table = secrets()
    below = {parent: dict.fromkeys(keys, SECRET) for parent, keys in table.redacted_below.items()}
    return {**dict.fromkeys(table.redacted, SECRET), **below}


REDACTED: dict[str, Any] = {
    "keys of the table": _of_table(),
    "names": dict.fromkeys(_NAMES.values(), SECRET),
    **{f"shape, {kind}": {"dispense": shape} for kind, shape in _SHAPES.items()},
    **{f"text, {kind}": text for kind, text in _TEXTS.items()},
    **{f"neighbour, {kind}": value for kind, value in _NEIGHBOURS.items()},
}
"""Disguise → the value with the secret, for forms that no record may have."""

_PAYLOAD = urlsafe_b64encode(json.dumps({"sub": SECRET}).encode()).decode().rstrip("=")
_JWT = f"eyJhbGciOiJIUzI1NiJ9.{_PAYLOAD}.c2lnbmF0dXJl"

_CREDENTIALS: dict[str, str] = {
    "bearer": f"Bearer {SECRET}{SECRET}",
    "bearer header": f"Authorization: Bearer {SECRET}",
    "basic": f"Basic\t{b64encode(f'jane:{SECRET}'.encode()).decode()}",
    "basic header": f"Authorization: Basic {b64encode(f'jane:{SECRET}'.encode()).decode()}",
    "JWT": _JWT,
    "JWT in a sentence": f"Join with {_JWT} at noon",
    "JWT in an address": f"https://example.org/r/{_JWT}",
    "signed address": f"https://rooms.example.org/7?X-Amz-Signature={SECRET}&X-Amz-Expires=300",
    "signed address of Azure": f"https://a.blob.example.org/f.pdf?sv=2024&sig={SECRET}%3D",
    "address without a scheme": f"//cdn.example.org/a.png?token={SECRET}",
    "fragment": f"https://app.example.org/#access_token={SECRET}",
    "address in HTML": f'<a href="https://example.org/r?a=1&amp;token={SECRET}">open</a>',
    "address in percent": quote(f"https://example.org/r?token={SECRET}", safe=""),
    "user and password": f"https://jane:{SECRET}@example.org/room",
    "user without a password": f"https://{SECRET}@example.org/room",
    "database": f"postgresql://app:{SECRET}@db.example.org:5432/records",
    "no scheme": f"jane:{SECRET}@db.example.org",
    "no scheme, port": f"postgres:{SECRET}@10.0.0.4:5432/records",
    "private key": f"-----BEGIN PRIVATE KEY-----\nMIIB{SECRET}\n-----END PRIVATE KEY-----",
    "provider's token": f"ghp_{SECRET}{SECRET}{SECRET}",
    "cookie": f"Set-Cookie: sid={SECRET}; Path=/",
    "webhook address": f"https://hooks.slack.com/services/T1/B2/{SECRET}",
    "password": f"password: {SECRET}",
    "password with a verb": f"the password is {SECRET}",
    "password behind": f"{SECRET} is my password",
    "password in full width": f"\uff50\uff41\uff53\uff53\uff57\uff4f\uff52\uff44\uff1a{SECRET}",
    "password with invisible signs": f"pass\u200bword: {SECRET}",
    "password in Cyrillic": f"p\u0430ssword: {SECRET}",
    "password in percent": quote(f"password: {SECRET}"),
    "password in HTML": f"<b>password:</b> {SECRET}",
    "Spanish": f"la contraseña es {SECRET}",
    "Portuguese": f"a senha é {SECRET}",
    "Arabic": f"كلمة السر هي {SECRET}",
    "Chinese": f"密码是{SECRET}",
    "access code": f"código de acceso: {SECRET}",
    "PIN": f"PIN: {DIGITS}",
    "OTP": f"OTP is {DIGITS}",
    "code before its name": f"{DIGITS} is your verification code",
    "CSV of passwords": f"user,password\njane,{SECRET}\n",
    "JSON with a password": json.dumps({"password": SECRET}),
    "form with a token": urlencode({"n": 7, "token": SECRET}),
    "JSON Web Key": json.dumps({"kty": "oct", "k": SECRET}),
}
"""Texts that look like a credential, whatever their key is."""


_RULE = secrets().withheld
_MAPPED = {"channel"}
"""Withheld keys that are a mapped field somewhere (of MediQuo's consultation): there its rule decides."""

WITHHELD: dict[str, Any] = {
    **{f"credential, {kind}": text for kind, text in _CREDENTIALS.items()},
    "withheld keys": dict.fromkeys(
        sorted({*_RULE.exact, *_RULE.contains, *_RULE.exact_if_opaque} - _MAPPED), f"{SECRET}{SECRET}"
    ),
    "withheld keys in disguise": dict.fromkeys(
        ["x_AccessToken_2", "\uff54\uff4f\uff4b\uff45\uff4e", "to\u200bken", "p\u0430ssword", "PASS WORD"], SECRET
    ),
    "withheld, below": {"accessToken": {"a": {"b": [SECRET]}}},
    "withheld name and value": {"name": "password", "value": SECRET},
    "withheld in a flat list": ["Host", "example.org", "X-Token", SECRET],
    "withheld in a numbered list": {"1": "Host", "2": "example.org", "3": "X-Token", "4": SECRET},
    "withheld in a table": {"columns": ["id", "password"], "rows": [[1, SECRET]]},
    "credential as a key": {f"https://jane:{SECRET}@example.org/": 1},
    "bearer as a key": {f"Bearer {SECRET}{SECRET}": 1},
    "password as a key": {f"password: {SECRET}": 1},
}
"""Disguise → the value with the secret, for forms that only the raw event and a dead letter's value may have."""
