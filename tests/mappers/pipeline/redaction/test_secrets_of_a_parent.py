"""Secrets that are redacted only below a named parent: in texts, beside names, over split names (mapping.md §7)."""

import json
from typing import Any

import pytest

from fhirline.mappers.pipeline.redaction.redact import REDACTED
from tests.support.redaction import SECRET, assert_linear, both_ways

ROOM = f"https://rooms.example.org/{SECRET}"


@pytest.mark.parametrize(
    "body",
    [
        {"note": f"chatConfig:\n  token: {SECRET}"},
        {"note": f"chatConfig:\r\n  size: 2\r\n  app_id: {SECRET}\r\n"},
        {"note": f"voipConfig:\n  session:\n    - call_id: {SECRET}\n      at: noon"},
        {"note": f"voip_config:\n- token: {SECRET}\n"},
        {"note": f"Chat config:\n  App token: 2\n  chat-token: |\n    {SECRET}\n"},
        {"note": f"data.chatConfig:\n  token: {SECRET}"},
        {"note": f"chat:\n  config:\n    token: {SECRET}"},
        {"note": f"chatConfig:\n  app:\n    user:\n      token: {SECRET}"},
        {"note": f"chatConfig: {{token: {SECRET}, app_id: 7}}"},
        {"note": f"the answer was {{ chatConfig: {{ size: 2, appUserToken: '{SECRET}' }} }}"},
        {"note": f"the answer was {{ data: {{\n  voipConfig: {{\n    callId: {SECRET}\n  }}\n}} }}"},
        {"note": f"{{:chatConfig=>{{:token=>{SECRET}}}}}"},
        {"note": f"[chatConfig]\ntoken = {SECRET}\nsize = 2"},
        {"note": f"[data.voip_config]\ncall_id={SECRET}"},
        {"note": f"chat_config_token={SECRET}"},
        {"note": f"the chat config token: {SECRET}"},
        {"note": f"consultation:\n  url: {ROOM}"},
        {"note": f"consultation: {ROOM}"},
        {"note": f"consultation:\n- {ROOM}"},
        {"note": f"consultation: [{ROOM}]"},
        {"chatConfig": f"token: {SECRET}\nsize: 2"},
        {"chatConfig": f"app_id: {SECRET}"},
        {"consultation": f"at: noon\nurl: {ROOM}"},
        {"consultation": [f"at: noon\nurl: {ROOM}"]},
        {"chatConfig": {"session": {"note": f"at: noon\ntoken: {SECRET}"}}},
        {"note": f"pass:\n  codes: {SECRET}"},
        {"chatConfigToken": SECRET},
        {"voip-config-call-id": SECRET},
        {"chat": {"config": {"token": SECRET}}},
        {"chatConfig": {"app": {"user": [{"id": SECRET}]}}},
        {"chatConfig": [{"name": "token", "value": SECRET}]},
        {"chatConfig": [["token", SECRET], ["size", 2]]},
        {"chatConfig": ["size", "2", "app_id", SECRET]},
        {"name": "chatConfig", "value": {"token": SECRET}},
        {"key": "voip_config", "value": f"call_id={SECRET}&size=2"},
        [["chatConfig", {"token": SECRET}]],
        {"note": f"<chatConfig><a><token>{SECRET}</token></a></chatConfig>"},
    ],
    ids=lambda body: json.dumps(body)[:50],
)
def test_a_secret_of_a_parent_goes(body: Any) -> None:
    assert SECRET not in json.dumps(both_ways(body), ensure_ascii=False)


@pytest.mark.parametrize(
    "body",
    [
        {"note": "chat:\n  topic: cough for 12 days\n  config: 2"},
        {"note": "chatConfig:\n  size: 2\nPlan:\n  token: none given"},
        {"note": "Consultation:\n  reason: cough\n  code: R05\n  leaflet: https://example.org/cough"},
        {"note": "Consultation: cough for 3 days, see https://example.org/cough"},
        {"note": "Consultation: [12 minutes]\nchat: {of: 2 days}"},
        {"consultation": {"note": "Read this:\nhttps://example.org/cough\n- https://example.org/fever"}},
        {"consultation": {"note": "Plan: rest"}, "name": "consultation", "value": "20 minutes"},
        {"name": "Consultation", "value": "See https://example.org/cough"},
        {"chat": {"config": {"size": 2}, "messages": ["token of thanks"]}},
        ["chatConfig", "12 messages"],
        {"note": "pass: {codeine: 30mg}"},
        {"note": "Pass:\n  codeine: 30 mg\n  keywords: 2 of 12"},
        {"note": "QR code; E11.9; CT of the chest"},
        {"note": "The QR code – COVID-19 certificate – was shown, QR code - SARS-CoV-2, QR code – HbA1c"},
        {"note": "QR code - 120/80 mmHg"},
        {"note": "Consultation: as agreed, see\n  https://example.org/cough"},
        {"consultation": {"report": {"note": "Rest.\nurl: https://example.org/cough\nReturn if worse."}}},
        {"consultation": {"note": "[Plan]\nurl = https://example.org/cough"}},
        {"url": "https://example.org/fhir/consultation", "extension": [{"url": "reason", "valueString": "cough"}]},
    ],
    ids=lambda body: json.dumps(body)[:50],
)
def test_what_is_no_secret_of_a_parent_stays(body: Any) -> None:
    assert both_ways(body) == body


def test_what_is_beside_the_secret_stays() -> None:
    text = f"plan: rest\nchatConfig:\n  token: {SECRET}\n  size: 2\ndose: 2 tablets\n"
    assert both_ways({"note": text}) == {"note": text.replace(SECRET, REDACTED)}


@pytest.mark.parametrize(
    "unit",
    ["pass:{", "chatConfig: [", "chatConfig:\n", "a:\n b:\n", "pass_code:\n a: b\n", "x: y" + " " * 5_000],
    ids=lambda unit: unit[:20],
)
def test_a_long_text_takes_time_by_its_length(unit: str) -> None:
    assert_linear(unit)
