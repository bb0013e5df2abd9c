"""A reading in the text formats that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from sessiond.daemon.histogram import Histogram
from sessiond.daemon.metrics.reading import Reading
from sessiond.daemon.metrics.samples import samples
from sessiond.daemon.metrics.table import METRICS, Metric

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


def expose(now: Reading, accept: str = "") -> tuple[bytes, str]:
    """The text and its content type. `accept` is the header of that name: OpenMetrics for whoever wants it."""
    # A registry for each reading: nothing is kept between two, and nothing is global.
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(now))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Once(Collector):
    def __init__(self, now: Reading) -> None:
        self._now = now

    def collect(self) -> Iterator[Family]:
        families = {metric.name: _family(metric) for metric in METRICS}
        told = set[str]()
        for name, labels, value in samples(self._now):
            _add(families[name], labels, value)
            told.add(name)
        yield from (family for name, family in families.items() if name in told)


def _family(metric: Metric) -> Family:
    match metric.kind:
        case "counter":
            return CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
        case "gauge":
            return GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
        case "histogram":
            return HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)


def _add(family: Family, labels: tuple[str, ...], value: float | Histogram) -> None:
    if isinstance(family, HistogramMetricFamily):
        assert isinstance(value, Histogram)
        family.add_metric(labels, value.buckets(), value.sum_s)
    else:
        assert not isinstance(value, Histogram)
        family.add_metric(labels, value)
