"""What is exported, documented and drawn is one and the same, and named as Prometheus wants it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.daemon.metrics.readings import reading

from sessiond.daemon.metrics.exposition import expose
from sessiond.daemon.metrics.kinds import KINDS
from sessiond.daemon.metrics.samples import samples
from sessiond.daemon.metrics.table import METRICS, Metric

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/observability.md").read_text(encoding="utf-8")
DASHBOARD: dict[str, Any] = json.loads((ROOT / "docs/grafana/sessiond.json").read_text(encoding="utf-8"))
BY_NAME = {metric.name: metric for metric in METRICS}
_KNOWN_TO_PROMETHEUS = {"instance", "le"}


def _series(metric: Metric) -> set[str]:
    """The names by which a query may ask for it."""
    return (
        {f"{metric.name}_{part}" for part in ("bucket", "sum", "count")}
        if metric.kind == "histogram"
        else {metric.name}
    )


def _expressions() -> list[str]:
    asked = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return asked + [each["query"] for each in DASHBOARD["templating"]["list"] if each["type"] == "query"]


def test_no_name_comes_twice() -> None:
    assert len(BY_NAME) == len(METRICS)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_the_conventions(metric: Metric) -> None:
    assert re.fullmatch(r"sessiond(_[a-z]+)+", metric.name)
    assert (metric.kind == "counter") == metric.name.endswith("_total")
    assert not re.search(r"_(ms|milliseconds|minutes|kb|mb|kib|mib|percent|count|sum|bucket|created)(_|$)", metric.name)  # fmt: skip
    assert metric.kind != "histogram" or metric.name.endswith("_seconds")
    assert re.fullmatch(r"[0-9A-Z][^\n]*\.", metric.help)
    assert all(re.fullmatch(r"[a-z]+", label) and label not in {"le", "quantile"} for label in metric.labels)


def test_every_sample_is_in_the_table_with_its_labels() -> None:
    told = list(samples(reading()))
    assert {name for name, _, _ in told} == set(BY_NAME)
    assert all(len(labels) == len(BY_NAME[name].labels) for name, labels, _ in told)
    assert len({(name, labels) for name, labels, _ in told}) == len(told)


def test_prometheus_reads_every_metric_with_its_help_and_type() -> None:
    body = expose(reading())[0].decode()
    found = {
        family.name + ("_total" if family.type == "counter" else ""): (family.type, family.documentation)
        for family in text_string_to_metric_families(body)
    }
    assert found == {metric.name: (metric.kind, metric.help) for metric in METRICS}


def test_without_a_disk_tier_nothing_is_said_of_it() -> None:
    assert "disk_tier" in expose(reading())[0].decode()
    assert "disk_tier" not in expose(reading(disk=None))[0].decode()


def test_the_page_documents_each_metric_as_it_is() -> None:
    rows = re.findall(r"^\| `(sessiond_\w+)` \| (\w+) \| ([^|]*) \| (.*) \|$", PAGE, re.MULTILINE)
    told = {name: (kind, tuple(re.findall(r"`(\w+)`", labels)), text) for name, kind, labels, text in rows}
    assert len(rows) == len(told)
    assert told == {metric.name: (metric.kind, metric.labels, metric.help) for metric in METRICS}


def test_the_page_explains_every_kind_of_turn() -> None:
    assert [kind for kind in KINDS if f"`{kind}`" not in PAGE] == []


def test_the_dashboard_asks_for_what_exists() -> None:
    known = set().union(*map(_series, METRICS))
    asked = {name for text in _expressions() for name in re.findall(r"\bsessiond_\w+", text)}
    assert asked
    assert asked <= known


def test_the_dashboard_leaves_nothing_out() -> None:
    text = "\n".join(_expressions())
    limits = {"sessiond_cells", "sessiond_memory_tier_limit_bytes", "sessiond_engine_starts_total"}
    limits |= {name for name in BY_NAME if name.startswith("sessiond_disk_tier_")}
    unseen = {name for name in BY_NAME if not re.search(rf"\b{name}(_bucket)?\b", text)}
    assert unseen <= limits


def test_the_dashboard_uses_only_labels_that_there_are() -> None:
    for text in _expressions():
        named = [BY_NAME[name.removesuffix("_bucket")] for name in re.findall(r"\bsessiond_\w+", text)]
        labels = set().union(*(metric.labels for metric in named)) | _KNOWN_TO_PROMETHEUS
        grouped = {
            each.strip() for group in re.findall(r"\bby \(([^)]*)\)", text) for each in group.split(",")
        }
        matched = set(re.findall(r"(\w+)=~?\"", text))
        assert grouped | matched <= labels, text


def test_the_dashboard_can_be_imported_anywhere() -> None:
    [source, _] = DASHBOARD["templating"]["list"]
    assert source["type"] == "datasource"
    places = [panel["datasource"] for panel in DASHBOARD["panels"]]
    places += [target["datasource"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    assert {place["uid"] for place in places} == {f"${{{source['name']}}}"}
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    corners = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]}
    assert len(corners) == len(ids)


def test_the_dashboard_names_the_labels_it_draws() -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            grouped = {each.strip() for group in re.findall(r"\bby \(([^)]*)\)", target["expr"]) for each in group.split(",")}  # fmt: skip
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert grouped - {"le"} <= shown, panel["title"]
