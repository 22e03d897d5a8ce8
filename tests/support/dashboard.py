"""Grafana's dashboard and Prometheus' rules, and what their PromQL expressions name."""

import json
import re

import yaml

from tests.support.paths import DOCKER

GRAFANA = DOCKER / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards" / "fhirline.json").read_text("utf-8"))
RULES = [
    rule
    for group in yaml.safe_load((GRAFANA / "prometheus" / "rules" / "fhirline.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
EXPRESSIONS = [
    *(target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())),
    *(rule["expr"] for rule in RULES),
]
WORDS = frozenset(
    "sum max min avg count group absent rate increase deriv changes histogram_quantile topk vector max_over_time "
    "by without on ignoring group_left group_right and or unless offset time".split()
)
"""PromQL's own words, as far as they are used."""


OWN_LABELS = frozenset({"job", "instance", "le"})
OF_PROMETHEUS = frozenset({"up"})


def named(expression: str) -> tuple[set[str], dict[str, set[str]], set[str]]:
    """Return the metrics of an expression, the labels that select each, and the labels that group results."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    selected: dict[str, set[str]] = {}
    for metric, inside in re.findall(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}", bare):
        selected.setdefault(metric, set()).update(re.findall(r"(\w+)\s*[=!]", inside))
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", bare)
    grouping = r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)"
    grouped = {label for inside in re.findall(grouping, bare) for label in re.findall(r"\w+", inside)}
    bare = re.sub(grouping, " ", bare)
    bare = re.sub(r"\boffset\s+\w+", " ", bare)
    return set(re.findall(r"(?<![\w.])[a-zA-Z_:][\w:]*", bare)) - WORDS, selected, grouped
