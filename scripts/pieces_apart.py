#!/usr/bin/env python3
"""What changes where pieces of a prompt are computed without seeing each other, and joined afterwards.

    .venv/bin/python scripts/pieces_apart.py [--model PATH] [--tokens 400] [--answer 32]

Pieces of this repository's own text, and questions over all of them. Each question, and an answer to it (the greedy one after
a joint prefill), is computed after the pieces in four forms:

- joint: one after the other, each token seeing all before it. This is what the daemon does, and what all is held against;
- again: the same in smaller batches, in a second sequence. What it differs by is rounding;
- apart: each piece in a sequence of its own, at its own positions, and the cells joined;
- moved: the same, computed at the positions from 0 on, and moved to its own by the library.

Told are the Kullback-Leibler divergence of the distributions of the next token from the joint ones (in nats), the share of
places at which another token is the likeliest, and by how much logits differ. Prints one JSON object. It measures no times.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sessiond.adapters.base import BackendError, ModelLoadError
from sessiond.adapters.llama_cpp import embedded_model
from sessiond.adapters.llama_cpp.gguf_head import check_model_file
from sessiond.adapters.llama_cpp.library import last_words, library
from sessiond.adapters.llama_cpp.vocab import Vocab

ROOT = Path(__file__).resolve().parents[1]
PIECES = (
    "README.md",
    "adapters/sessiond/adapters/base/kv.py",
    "docs/adr/0006-one-tree-for-a-workspace.md",
)
QUESTIONS = (
    "\n\nIn one sentence, what does this daemon keep between two questions?",
    "\n\nWhat does `KvContext.decode` raise where there are no free cells?",
    "\n\nWhy do sessions over one workspace share a tree?",
    "\n\nList the methods that any thread may call:",
    "\n\nName one thing that the README and the class above both speak of:",
)
JOINT, AGAIN, QUESTION = 0, 1, 2
"""Sequences; the last one is where a question is computed, and what it stands on is shared into it."""
FIRST_PIECE = 3
STEP, SMALL_STEP = 256, 96
"""Tokens of a batch; the second for what is computed again."""

Rows = npt.NDArray[np.float64]
"""Logits: a row for each place."""


class Sequences:
    """A context with as many sequences as are needed, over the low-level functions."""

    def __init__(self, path: str, cells: int) -> None:
        """Raises BackendError."""
        low: Any = library()
        self._low = low
        check_model_file(path)
        self._model = low.llama_model_load_from_file(path.encode(), low.llama_model_default_params())
        if not self._model:
            raise ModelLoadError(f"llama.cpp cannot load {path}: {last_words()}")
        self.vocab = Vocab(self._model)
        params = low.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = cells, STEP, STEP
        params.n_seq_max, params.kv_unified = FIRST_PIECE + 2 * len(PIECES), True
        self._context = low.llama_init_from_model(self._model, params)
        if not self._context:
            raise BackendError(f"there is no room for a context of {cells} cells: {last_words()}")
        self._memory = low.llama_get_memory(self._context)
        self._batch = low.llama_batch_init(STEP, 0, 1)

    def close(self) -> None:
        """Give everything back."""
        self._low.llama_batch_free(self._batch)
        self._low.llama_free(self._context)
        self._low.llama_model_free(self._model)

    def compute(self, sequence: int, start: int, tokens: Sequence[int], step: int = STEP) -> None:
        """Tokens at the positions from `start` on."""
        for at in range(0, len(tokens), step):
            self._decode(sequence, start + at, tokens[at : at + step], logits=False)

    def rows(self, sequence: int, start: int, tokens: Sequence[int]) -> Rows:
        """The same, and the logits after each of them."""
        self._decode(sequence, start, tokens, logits=True)
        size = self.vocab.facts.size
        found = [
            np.ctypeslib.as_array(self._low.llama_get_logits_ith(self._context, row), (size,))
            for row in range(len(tokens))
        ]
        return np.array(found, np.float64)

    def share(self, source: int, target: int) -> None:
        """Put the cells of a sequence into another one too."""
        self._low.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def move(self, sequence: int, by: int) -> None:
        """Move all of a sequence to later positions."""
        self._low.llama_memory_seq_add(self._memory, sequence, -1, -1, by)

    def empty(self, sequence: int) -> None:
        """Let go of all that a sequence holds."""
        self._low.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def _decode(self, sequence: int, start: int, tokens: Sequence[int], *, logits: bool) -> None:
        batch = self._batch
        batch.n_tokens = len(tokens)
        for index, token in enumerate(tokens):
            batch.token[index], batch.pos[index] = token, start + index
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, sequence
            batch.logits[index] = logits
        if self._low.llama_decode(self._context, batch):
            raise BackendError(f"llama_decode failed: {last_words()}")


@dataclass(slots=True)
class Differences:
    """Of one form from the joint one, place by place."""

    divergences: list[float]
    other_tokens: int = 0
    largest: float = 0.0
    sum_of_all: float = 0.0
    logits: int = 0

    def add(self, joint: Rows, other: Rows) -> None:
        """The rows of one question."""
        p, q = _log_probabilities(joint), _log_probabilities(other)
        self.divergences += (np.exp(p) * (p - q)).sum(axis=1).tolist()
        self.other_tokens += int((joint.argmax(axis=1) != other.argmax(axis=1)).sum())
        apart = np.abs(joint - other)
        self.largest = max(self.largest, float(apart.max()))
        self.sum_of_all += float(apart.sum())
        self.logits += apart.size

    def told(self) -> dict[str, float]:
        """As one object."""
        return {
            "kl_mean": float(np.mean(self.divergences)),
            "kl_median": float(np.median(self.divergences)),
            "kl_largest": float(np.max(self.divergences)),
            "share_of_other_likeliest": self.other_tokens / len(self.divergences),
            "logit_difference_mean": self.sum_of_all / self.logits,
            "logit_difference_largest": self.largest,
        }


def measured(path: str, tokens: int, answer: int) -> dict[str, object]:
    """See the module. Raises BackendError."""
    longest = max(map(len, QUESTIONS)) + answer
    place = Sequences(path, 4 * (tokens * len(PIECES)) + longest + STEP)
    try:
        pieces = [_tokens(place, (ROOT / name).read_text(encoding="utf-8"))[:tokens] for name in PIECES]
        _stand(place, pieces)
        ends = sum(map(len, pieces))
        forms = {
            "again": [AGAIN],
            "apart": [FIRST_PIECE + index for index in range(len(pieces))],
            "moved": [FIRST_PIECE + len(pieces) + index for index in range(len(pieces))],
        }
        found = {name: Differences([]) for name in forms}
        for question in QUESTIONS:
            asked = _tokens(place, question)
            said = _greedy(place, ends, asked, answer)
            joint = _after(place, [JOINT], ends, [*asked, *said])
            for name, sequences in forms.items():
                found[name].add(joint, _after(place, sequences, ends, [*asked, *said]))
    finally:
        place.close()
    return {
        "model": Path(path).name,
        "pieces": {name: len(piece) for name, piece in zip(PIECES, pieces, strict=True)},
        "questions": len(QUESTIONS),
        "places": len(found["again"].divergences),
        **{name: differences.told() for name, differences in found.items()},
    }


def _stand(place: Sequences, pieces: Sequence[Sequence[int]]) -> None:
    """Have the pieces computed in all forms."""
    together = [token for piece in pieces for token in piece]
    place.compute(JOINT, 0, together)
    place.compute(AGAIN, 0, together, SMALL_STEP)
    start = 0
    for index, piece in enumerate(pieces):
        place.compute(FIRST_PIECE + index, start, piece)
        moved = FIRST_PIECE + len(pieces) + index
        place.compute(moved, 0, piece)
        if start:
            place.move(moved, start)
        start += len(piece)


def _after(place: Sequences, sequences: Sequence[int], start: int, tokens: Sequence[int]) -> Rows:
    """The logits after each of these tokens, which stand behind what the sequences hold together."""
    place.empty(QUESTION)
    for sequence in sequences:
        place.share(sequence, QUESTION)
    return place.rows(QUESTION, start, tokens)


def _greedy(place: Sequences, start: int, asked: Sequence[int], most: int) -> list[int]:
    """The likeliest answer after the joint prefill, token by token."""
    said: list[int] = []
    row = _after(place, [JOINT], start, asked)[-1]
    while len(said) < most:
        said.append(int(row.argmax()))
        row = place.rows(QUESTION, start + len(asked) + len(said) - 1, said[-1:])[-1]
    return said


def _tokens(place: Sequences, text: str) -> list[int]:
    return place.vocab.tokenize(text, parse_special=False)


def _log_probabilities(rows: Rows) -> Rows:
    shifted: Rows = rows - rows.max(axis=1, keepdims=True)
    total: Rows = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted - total


def main() -> int:
    """Measure and print. 0: it was done. 2: it could not be."""
    parser = argparse.ArgumentParser(description="What changes where pieces do not see each other.")
    parser.add_argument("--model", default="", help="a GGUF file; the embedded one if left out")
    parser.add_argument("--tokens", type=int, default=400, help="tokens of each piece at most")
    parser.add_argument("--answer", type=int, default=32, help="tokens of each answer")
    asked = parser.parse_args()
    if not 1 <= asked.tokens <= 2000 or not 0 <= asked.answer <= 128:
        parser.error("a piece has 1 to 2000 tokens, and an answer at most 128")
    try:
        told = measured(asked.model or embedded_model() or "", asked.tokens, asked.answer)
    except BackendError as error:
        print(f"pieces_apart: {error}", file=sys.stderr)
        return 2
    print(json.dumps(told, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
