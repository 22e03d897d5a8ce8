"""The console's start, where something stands in its way."""

from pathlib import Path

from tests.support.kafka.brokers import RunningBroker
from tests.support.processes import command


def test_a_wrong_code_table_ends_it_in_one_line(broker: RunningBroker, tmp_path: Path) -> None:
    (tmp_path / "route.yaml").write_text("rows: no list\n")
    own = {"FHIRLINE_BOOTSTRAP": broker.bootstrap, "FHIRLINE_TERMINOLOGY_DIR": str(tmp_path), "PATH": ""}
    with command("console", "--port", "0", environ=own) as process:
        assert process.wait() == 2, process.output
    (line,) = process.said()
    assert "route.yaml" in line
