"""The address of an event's page, which people put into tickets."""

import re

from tests.support.console_pages import Visitor, console
from tests.support.kafka.brokers import RunningBroker
from tests.support.load import load_on


def test_an_address_is_that_of_the_same_event_after_a_restart(own_broker: RunningBroker) -> None:
    load = load_on(own_broker)
    load.send(load.events(20, seed=3))
    with console(load.settings) as (url, _):
        before = addresses(Visitor(url).log_in())
    load.send(load.events(20, seed=4))
    assert len(before) > 5
    with console(load.settings) as (url, _):
        visitor = Visitor(url).log_in()
        assert before.items() <= addresses(visitor).items()
        for key, address in before.items():
            assert f"<dt>Event key</dt><dd><code>{key}" in visitor.get(address).text
        gone = visitor.get(f"{next(iter(before.values()))[:-1]}x")
    assert gone.status == 404
    assert "no such event" in gone.text


def addresses(visitor: Visitor) -> dict[str, str]:
    """The pages of the newest events, by the first digits of their keys."""
    found = re.findall(r'<a href="(/events/[^"]+)"><code>([0-9a-f]{12})</code>', visitor.get("/events").text)
    return {key: address for address, key in found}
