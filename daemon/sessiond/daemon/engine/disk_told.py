"""How the disk tier stands, as the daemon is told it."""

from __future__ import annotations

from dataclasses import asdict

from sessiond.daemon.engine import wire
from sessiond.daemon.engine.disk import Facts


def disk_told(facts: Facts) -> wire.DiskTold:
    """Facts and counts in one message."""
    return wire.DiskTold(
        open=int(facts.state == "open"),
        entries=facts.entries,
        bytes=facts.bytes,
        limit=facts.limit,
        waiting_bytes=facts.waiting_bytes,
        **asdict(facts.counts),
    )
