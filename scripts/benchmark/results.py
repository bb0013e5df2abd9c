"""What a run found, as a file: JSON with all that is needed to repeat it, and CSV. Files that are read are not trusted."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from benchmark.took import Milliseconds, Tokens, Took

Format = Literal["sessiond-benchmark 1"]
FORMAT: Format = "sessiond-benchmark 1"
MOST_BYTES = 64 << 20
"""Of a results file. A full run of many depths has one."""
MOST_ROWS, MOST_SAMPLES, MOST_SIDES = 4096, 4096, 64

Word = Annotated[str, msgspec.Meta(max_length=200)]
MOST_SENTENCE = 4000
Sentence = Annotated[str, msgspec.Meta(max_length=MOST_SENTENCE)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class NoResults(Exception):
    """A file cannot be read as results. The message says why."""


class _Strict(msgspec.Struct, forbid_unknown_fields=True):
    """A misspelt field is a fault, not a default."""


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the project says of a kind of row. 0 is no claim."""

    floor_ratio: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0
    """At most so many times the floor, and `floor_extra_ms` more."""
    floor_extra_ms: Milliseconds = 0.0
    peer_ratio: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0
    """At least so many times as fast as the best peer."""


class Row(_Strict):
    """One kind of event at one depth."""

    kind: Word
    """Such as "suffix" or "edit"."""
    label: Word
    """For a person, without the depth."""
    depth: Tokens
    """Tokens of the prefix that were asked for."""
    suffix: Tokens = 0
    """Tokens of the suffix."""
    metric: Literal["first_token_ms", "token_ms"] = "first_token_ms"
    warm: bool = False
    """Whether the prefix is there before the turn: the warm path, which the check for losses holds."""
    limit: Limit = msgspec.field(default_factory=Limit)
    prefix_tokens: Tokens = 0
    """What the prefix really had, at most."""
    version: Word = ""
    """Of sessiond, as `Report.version`: a run may have gone on with another one."""
    samples: Annotated[
        dict[Word, Annotated[list[Took | None], msgspec.Meta(max_length=MOST_SAMPLES)]],
        msgspec.Meta(max_length=MOST_SIDES),
    ] = msgspec.field(default_factory=dict[str, list[Took | None]])
    """By side. The same place in two lists is the same repeat; None is a repeat that did not come to its end."""
    not_measured: Annotated[dict[Word, Sentence], msgspec.Meta(max_length=MOST_SIDES)] = msgspec.field(
        default_factory=dict[str, str]
    )
    """Why a side has no sample, or lacks some."""
    load: Annotated[list[Share], msgspec.Meta(max_length=MOST_SAMPLES)] = msgspec.field(
        default_factory=list[float]
    )
    """The share of the machine that others had, by repeat: other programs, or who runs the virtual machine."""

    @property
    def key(self) -> str:
        """Unique within a run, and the same in another one."""
        return f"{self.label} @ {self.depth}"

    def values(self, side: str) -> list[float | None]:
        """A side's figure of each repeat. One that has none, such as the speed of no second token, is None."""
        return [
            None if took is None else (getattr(took, self.metric) or None)
            for took in self.samples.get(side, [])
        ]


class SideFacts(_Strict):
    """One side, and how it was run."""

    name: Word
    role: Literal["ours", "floor", "peer"]
    flags: Annotated[list[Sentence], msgspec.Meta(max_length=200)] = msgspec.field(default_factory=list[str])
    """Of the deepest rows that it took part in."""
    flags_by_work: Annotated[
        dict[Word, Annotated[list[Sentence], msgspec.Meta(max_length=200)]],
        msgspec.Meta(max_length=MOST_SIDES),
    ] = msgspec.field(default_factory=dict[str, list[str]])
    """The same of each depth that it took part in, and of the day."""
    version: Sentence = ""
    """As the program tells it; empty where it is told elsewhere."""


class Way(_Strict):
    """One way to run the model, as the daemon timed it on this machine beside all others."""

    settings: Annotated[dict[Word, Sentence], msgspec.Meta(max_length=100)]
    bulk_tokens_per_second: Annotated[float, msgspec.Meta(ge=0, le=1e12)]
    """Of a prefill."""
    small_ms: Milliseconds
    """Of a batch of 16 tokens."""
    single_ms: Milliseconds
    """Of one token."""


class Machine(_Strict):
    """Where it ran."""

    cpu: Word
    cores: Tokens
    features: Annotated[list[Word], msgspec.Meta(max_length=1000)]
    """Of the CPU, those that decide how fast a model runs."""
    memory_bytes: Tokens
    system: Word
    python: Word
    load_at_start: Annotated[float, msgspec.Meta(ge=0, le=1e6)]
    chosen: Annotated[dict[Word, Sentence], msgspec.Meta(max_length=100)] = msgspec.field(
        default_factory=dict[str, str]
    )
    """What the daemon found to be the fastest settings for the model here, before rows were timed; empty where it did not
    measure. See ModelFacts for what it ran with.
    """
    ways: Annotated[list[Way], msgspec.Meta(max_length=100)] = msgspec.field(default_factory=list[Way])
    """What that was chosen from, the backend's own choice first."""


class ModelFacts(_Strict):
    """The weights, without their place."""

    name: Word
    digest: Word
    size_bytes: Tokens
    parameters: Tokens
    vocab_tokens: Tokens
    backend: Word
    backend_version: Sentence
    notes: Annotated[list[Sentence], msgspec.Meta(max_length=200)]
    """What the backend says of itself: which devices did the work, among them."""
    settings: Annotated[dict[Word, Sentence], msgspec.Meta(max_length=100)]
    """How the daemon ran it."""


class CachingRow(_Strict):
    """One line of the prompt-caching table; medians, where it was done more than once."""

    name: Word
    ms: Milliseconds
    tokens: Tokens
    size_bytes: Tokens = 0
    times: Tokens = 1


class EngineMemory(_Strict):
    """What one of a row's engines has, in bytes."""

    resident_weights_bytes: Tokens
    """Of the mapped model file, whole pages, whoever else maps them."""
    anonymous_bytes: Tokens


class MemoryRow(_Strict):
    """What the engines' processes held at one moment. Bytes; shared pages count for each of them in equal parts."""

    name: Word
    pss_bytes: Tokens
    weights_bytes: Tokens
    """Resident of the mapped model file, in all of them together; pages that they share count once."""
    anonymous_bytes: Tokens
    engines: Annotated[list[EngineMemory], msgspec.Meta(max_length=100)] = msgspec.field(
        default_factory=list[EngineMemory]
    )
    """Each of them, in the order in which they were started. Older results do not have it."""


class DayTurn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One question of the day."""

    kind: Word
    commit: Tokens
    prefix_tokens: Tokens
    took: Annotated[dict[Word, Took | None], msgspec.Meta(max_length=MOST_SIDES)]
    """By side."""


class Report(_Strict):
    """A whole run."""

    format: Format
    version: Word
    """Of sessiond, and of the commit where there is one."""
    began: Word
    """UTC, as ISO 8601."""
    seconds: Annotated[float, msgspec.Meta(ge=0, le=1e8)]
    asked: Annotated[dict[Word, Sentence], msgspec.Meta(max_length=100)]
    """The command line, as it was understood."""
    machine: Machine
    model: ModelFacts
    texts_digest: Word
    """SHA-256 of the sources that all texts were cut from."""
    sides: Annotated[list[SideFacts], msgspec.Meta(max_length=MOST_SIDES)]
    rows: Annotated[list[Row], msgspec.Meta(max_length=MOST_ROWS)]
    not_measured: Annotated[list[Sentence], msgspec.Meta(max_length=MOST_ROWS)]
    """What was left out as a whole, and why."""
    caching: Annotated[list[CachingRow], msgspec.Meta(max_length=100)] = msgspec.field(
        default_factory=list[CachingRow]
    )
    memory: Annotated[list[MemoryRow], msgspec.Meta(max_length=100)] = msgspec.field(
        default_factory=list[MemoryRow]
    )
    day: Annotated[list[DayTurn], msgspec.Meta(max_length=100_000)] = msgspec.field(
        default_factory=list[DayTurn]
    )
    day_history: Word = ""
    """The newest commit of the history that the day replays."""
    notes: Annotated[list[Sentence], msgspec.Meta(max_length=MOST_ROWS)] = msgspec.field(
        default_factory=list[str]
    )

    def role(self, role: Literal["ours", "floor", "peer"]) -> list[str]:
        """Names of the sides of one role."""
        return [side.name for side in self.sides if side.role == role]


def encoded(report: Report) -> bytes:
    """As JSON for people and programs."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def decoded(data: bytes) -> Report:
    """Raises NoResults."""
    try:
        report = msgspec.json.decode(data, type=Report)
    except (msgspec.DecodeError, RecursionError) as error:
        raise NoResults(f"these are no results: {error}") from error
    keys = [row.key for row in report.rows]
    if len(set(keys)) != len(keys):
        raise NoResults("these are no results: a row stands there twice")
    names = [side.name for side in report.sides]
    if len(set(names)) != len(names):
        raise NoResults("these are no results: a side stands there twice")
    if unknown := {name for row in report.rows for name in row.samples} - set(names):
        raise NoResults(f"these are no results: nobody is called {min(unknown)!r}")
    return report


def read(path: Path) -> Report:
    """Raises NoResults."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise NoResults(f"{path.name} cannot be read: {error.strerror}") from error
    if len(data) > MOST_BYTES:
        raise NoResults(f"{path.name} is larger than {MOST_BYTES >> 20} MiB")
    return decoded(data)


def written(path: Path, data: bytes) -> None:
    """Put a file there whole, or leave what was there. Raises OSError."""
    new = path.with_name(f".{path.name}~")
    with new.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def as_csv(report: Report) -> str:
    """One line for each sample."""
    fields = Took.__struct_fields__
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["kind", "label", "depth", "suffix", "side", "repeat", "load_of_others", *fields])
    for row in report.rows:
        for side, samples in row.samples.items():
            for repeat, took in enumerate(samples):
                if took is not None:
                    load = row.load[repeat] if repeat < len(row.load) else ""
                    told = [getattr(took, name) for name in fields]
                    facts = [row.kind, row.label, row.depth, row.suffix, side, repeat, load]
                    lines.writerow([_plain(cell) for cell in [*facts, *told]])
    return text.getvalue()


def _plain(cell: object) -> object:
    """A cell that no spreadsheet takes for a formula."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        return round(cell, 4)
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@")) else cell
