"""The form that exposes its KV."""

from __future__ import annotations

import heapq
import math
import threading
from array import array
from collections.abc import Sequence
from itertools import chain

from sessiond.adapters.base import (
    Aborted,
    BackendError,
    ContextSettings,
    Held,
    Likely,
    NoRoom,
    Run,
    Sampler,
    Unsupported,
)
from sessiond.adapters.scripted import answers, vocab
from sessiond.adapters.scripted.cells import CELL_BYTES, Cell, mark, marked, pack, unpack
from sessiond.adapters.scripted.sampler import ScriptedSampler
from sessiond.adapters.scripted.script import Script

_MORE_ROWS = 12
"""So few that every test with guesses or scores comes to the limit."""


class ScriptedKv:
    """A context with `settings.num_cells` cells. All of its KvContext methods raise BackendError once closed."""

    def __init__(
        self, settings: ContextSettings, script: Script, root: bytes, *, max_sequences: int, no_truncate: bool
    ) -> None:
        self._settings = settings
        self._script = script
        self._root = root
        self._no_truncate = no_truncate
        self._held: list[list[Cell]] = [[] for _ in range(max_sequences)]
        self._used = 0
        self._outputs: list[list[tuple[bytes, int]]] = []
        """For each run of the last decode, states and last tokens where it wanted logits, the last one first."""
        self._aborted = threading.Event()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether it was closed, by itself or with its model. Not part of the interface."""
        return self._closed

    @property
    def settings(self) -> ContextSettings:
        return self._settings

    @property
    def max_sequences(self) -> int:
        return len(self._held)

    @property
    def cells(self) -> int:
        return self._settings.num_cells

    @property
    def cell_bytes(self) -> int:
        return CELL_BYTES

    @property
    def more_rows(self) -> int:
        return _MORE_ROWS

    @property
    def rounding(self) -> float:
        return 0.0

    @property
    def used_cells(self) -> int:
        """Cells that some sequence holds. Not part of the interface: for tests."""
        return self._used

    def decode(self, runs: Sequence[Run]) -> None:
        count = self._check_runs(runs)
        self._script.decode()
        self._check_room(count)
        self._outputs = []
        sequences = [self._held[run.sequence] for run in runs]
        tokens = chain.from_iterable(
            ((cells, run.sequence, token) for token in run.tokens)
            for cells, run in zip(sequences, runs, strict=True)
        )
        for index, (cells, sequence, token) in enumerate(tokens):
            if index % self._settings.num_ubatch == 0 and not self._script.micro_batch(self._aborted):
                raise Aborted("scripted: aborted")
            state = answers.step(cells[-1].state if cells else self._root, token)
            cells.append(Cell(token, len(cells), 1 << sequence, state))
            self._used += 1
        self._outputs = [
            [(cell.state, cell.token) for cell in cells[: -1 - run.want_logits : -1]]
            for cells, run in zip(sequences, runs, strict=True)
        ]

    def logits(self, run: int | Held, back: int = 0) -> bytes:
        self._check_open()
        if isinstance(run, Held):
            return run.rows[back]
        if not 0 <= run < len(self._outputs) or not 0 <= back < len(self._outputs[run]):
            raise BackendError(
                f"scripted: the last decode kept no logits of run {run}, {back} tokens before its end"
            )
        return answers.logits(*self._outputs[run][back])

    def sample(self, run: int | Held, sampler: Sampler, back: int = 0) -> int:
        if not isinstance(sampler, ScriptedSampler):
            raise BackendError("scripted: the sampler is another backend's")
        return sampler.choose(self.logits(run, back))

    def likely(self, run: int | Held, token: int, count: int, back: int = 0) -> Likely:
        values = array("f", self.logits(run, back))
        best = heapq.nsmallest(count, range(len(values)), key=lambda each: (-values[each], each))
        top = max(values)
        total = top + math.log(sum(math.exp(value - top) for value in values))
        return Likely((token, values[token] - total), tuple((each, values[each] - total) for each in best))

    def lead(self, run: int | Held, back: int = 0) -> float:
        first, second = heapq.nlargest(2, array("f", self.logits(run, back)))
        return first - second

    def end(self, sequence: int) -> int:
        return len(self._cells(sequence))

    def checkpoint(self, sequence: int) -> bytes:
        cells = self._cells(sequence)
        if not self._no_truncate:
            return b""
        return mark(self._root, len(cells), self._state_at(cells, len(cells)))

    def truncate(self, sequence: int, end: int, checkpoint: bytes = b"") -> bool:
        cells = self._cells(sequence)
        if end < 0:
            raise BackendError(f"scripted: {end} is no position")
        if end < len(cells):
            if not self._can_cut(cells, end, checkpoint):
                return False
            self._release(sequence, end)
        return True

    def drop(self, sequence: int) -> None:
        self._cells(sequence)
        self._release(sequence, 0)

    def share(self, source: int, target: int, end: int, checkpoint: bytes = b"") -> None:
        cells = self._cells(source)
        self._check_empty(target)
        if not 0 <= end <= len(cells):
            raise BackendError(f"scripted: sequence {source} holds {len(cells)} positions, not {end}")
        if not self._can_cut(cells, end, checkpoint):
            raise Unsupported("truncate")
        self._held[target] = cells[:end]
        for cell in self._held[target]:
            cell.sequences |= 1 << target

    def save(self, sequence: int, start: int = 0, end: int | None = None) -> bytes:
        cells = self._cells(sequence)
        held = len(cells)
        end = held if end is None else end
        if not 0 <= start <= end <= held:
            raise BackendError(f"scripted: sequence {sequence} holds {held} positions, not {start} to {end}")
        if self._no_truncate and (start, end) != (0, held):
            raise Unsupported("truncate")
        return pack(self._root, cells[start:end], start)

    def load(self, sequence: int, state: bytes, start: int = 0, skip: int = 0) -> None:
        held = self._cells(sequence)
        if len(held) != start or not 0 <= skip <= start:
            raise BackendError(
                f"scripted: sequence {sequence} holds {len(held)} positions, not {start} after {start - skip}"
            )
        if skip and self._no_truncate:
            raise Unsupported("truncate")
        self._script.restore()
        saved = unpack(self._root, state, sequence, start - skip)
        if len(saved) < skip:
            raise BackendError(f"scripted: the saved state ends before {start}")
        cells = saved[skip:]
        self._check_room(len(cells))
        held += cells
        self._used += len(cells)

    def abort(self) -> None:
        self._aborted.set()

    def clear_abort(self) -> None:
        self._aborted.clear()

    def close(self) -> None:
        self._closed = True
        self._held = [[] for _ in self._held]
        self._used = 0

    def _state_at(self, cells: Sequence[Cell], end: int) -> bytes:
        return cells[end - 1].state if end else self._root

    def _can_cut(self, cells: Sequence[Cell], end: int, checkpoint: bytes) -> bool:
        """Whether a sequence of these cells can return to `end`. A model that cannot cut has only its last state;
        an earlier one comes from a checkpoint, and must be the one of these very tokens.
        """
        if not self._no_truncate or end in {0, len(cells)}:
            return True
        try:
            return marked(self._root, checkpoint) == (end, self._state_at(cells, end))
        except BackendError:
            return False

    def _check_open(self) -> None:
        if self._closed:
            raise BackendError("scripted: the context is closed")

    def _cells(self, sequence: int) -> list[Cell]:
        self._check_open()
        if not 0 <= sequence < len(self._held):
            raise BackendError(f"scripted: there is no sequence {sequence}")
        return self._held[sequence]

    def _check_empty(self, sequence: int) -> None:
        if self._cells(sequence):
            raise BackendError(f"scripted: sequence {sequence} is not empty")

    def _check_room(self, count: int) -> None:
        free = self.cells - self._used
        if count > free:
            raise NoRoom(f"scripted: {count} cells are needed and {free} are free")

    def _check_runs(self, runs: Sequence[Run]) -> int:
        """The number of tokens. Raises BackendError if they cannot be decoded in one batch."""
        if len({run.sequence for run in runs}) != len(runs):
            raise BackendError("scripted: two runs of one sequence in one batch")
        for run in runs:
            held = len(self._cells(run.sequence))
            if run.position != held:
                raise BackendError(
                    f"scripted: sequence {run.sequence} holds {held} positions, and the run starts at {run.position}"
                )
            if not run.tokens:
                raise BackendError("scripted: a run without tokens")
            if not 0 <= run.want_logits <= len(run.tokens):
                raise BackendError(f"scripted: {run.want_logits} of {len(run.tokens)} tokens have no logits")
            vocab.check(run.tokens)
        if (more := sum(max(0, run.want_logits - 1) for run in runs)) > self.more_rows:
            raise BackendError(f"scripted: logits of {more} tokens beside the last ones")
        count = sum(len(run.tokens) for run in runs)
        if not 0 < count <= self._settings.num_batch:
            raise BackendError(f"scripted: {count} tokens in a batch of at most {self._settings.num_batch}")
        return count

    def _release(self, sequence: int, end: int) -> None:
        cells = self._held[sequence]
        for cell in cells[end:]:
            cell.sequences &= ~(1 << sequence)
            self._used -= not cell.sequences
        del cells[end:]
