"""What a daemon's metrics say, over real HTTP and by Prometheus' own parser."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families
from tests.e2e.daemon import Daemon

FLAGS = ("--metrics", "127.0.0.1:0")


@dataclass(frozen=True)
class Answer:
    """Of one request."""

    status: int
    headers: Mapping[str, str]
    body: str


def port_of(daemon: Daemon) -> int:
    """Where it listens, and no daemon before it that wrote to the same log."""
    return int(daemon.records("daemon.metrics")[-1]["port"])


def request(
    daemon: Daemon, path: str = "/metrics", method: str = "GET", token: str | None = None, **headers: str
) -> Answer:
    """One request, with the daemon's own token unless another one is given; an empty one is not sent."""
    connection = http.client.HTTPConnection("127.0.0.1", port_of(daemon), timeout=30)
    told = daemon.token if token is None else token
    if told:
        headers["Authorization"] = f"Bearer {told}"
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.getheaders()), answer.read().decode())
    finally:
        connection.close()


def scrape(daemon: Daemon) -> dict[str, float]:
    """Every sample by `name{label=value,…}`, the labels by their names."""
    answer = request(daemon)
    assert answer.status == 200, answer
    found = dict[str, float]()
    for family in text_string_to_metric_families(answer.body):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            key = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert key not in found
            found[key] = sample.value
    return found
