"""`explain` for a pipe: one fact a line, the columns of a segment parted by tabs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sessiond.client.cli.explain_facts import (
    Place,
    busy_sentence,
    edit_cost_sentence,
    left_out_rows,
    segment_rows,
)
from sessiond.client.cli.terminal_text import clean_line

if TYPE_CHECKING:
    from sessiond.v1.context_pb2 import ContextReport


def report_lines(name: str, report: ContextReport) -> Iterator[str]:
    """The report as lines."""
    yield f"session: {name}"
    if report.closed:
        yield "closed: yes"
    if report.fatal_cause:
        yield f"fatal cause: {clean_line(report.fatal_cause)}"
    if busy := busy_sentence(report):
        yield f"busy: {busy}"
    yield f"resident tokens: {report.resident_tokens}"
    yield f"prefix tokens: {report.prefix_tokens}"
    yield f"suffix tokens: {report.suffix_tokens}"
    yield f"available tokens: {report.available_tokens} of {report.num_ctx}"
    yield f"shared tokens: {report.shared_tokens}"
    yield f"kv bytes: {report.kv_bytes}"
    if edit_cost := edit_cost_sentence(report):
        yield f"edit cost: {edit_cost}"
    yield f"manifest digest: {report.manifest_digest}"
    yield "segments: " + "\t".join(("tokens", *(place.value for place in Place), "name"))
    for row in segment_rows(report):
        yield "\t".join((str(row.tokens), *(str(row.places[place]) for place in Place), row.label))
    if report.HasField("last_miss"):
        miss = report.last_miss
        yield f"last miss: {clean_line(miss.message)}"
        yield f"last miss at: {clean_line(miss.path or miss.segment_id)} byte {miss.byte_offset}"
        yield f"last miss cost: {miss.cost_tokens} tokens"
        if miss.before or miss.after:
            yield f"last miss before: {clean_line(miss.before)}"
            yield f"last miss after: {clean_line(miss.after)}"
    for left in left_out_rows(report.left_out):
        yield f"left out, {left.reason}: {left.files} files, such as {', '.join(left.examples)}"
