"""Grammars against llama.cpp's own sampler: along random answers, both allow the same tokens."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
import pytest

from sessiond.adapters.base import ContextSettings, Held, ModelSettings, Run, Sampling, SettingsError
from sessiond.adapters.base.grammar import Automaton, Pieces
from sessiond.adapters.llama_cpp import ADAPTER
from sessiond.adapters.llama_cpp.candidates import ROW, apply
from sessiond.adapters.llama_cpp.library import library
from sessiond.adapters.llama_cpp.model import LlamaModel

from .tiny_models import plain

pytestmark = pytest.mark.model

GRAMMARS = (
    'root ::= "yes" | "no" | "não"',
    "root ::= [a-z]+ ([ ,] [^a-z€])*",
    'root ::= "(" root ")" | [0-9]{1,3}',
    r'root ::= "\"" ([^"\\\x00-\x1F] | "\\" ["\\/bfnrt])* "\""',
    'root ::= item+\nitem ::= "- " [^\\r\\n]{1,5} "\\n"',
    'root ::= expr\nexpr ::= term ([+*] term)*\nterm ::= [0-9] | "(" expr ")"',
    "root ::= . . .",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaModel]:
    path = tmp_path_factory.mktemp("grammar") / "model.gguf"
    plain(path)
    model = ADAPTER.load(str(path), ModelSettings(), lambda _: None)
    assert isinstance(model, LlamaModel)
    yield model
    model.close()


class _Native:
    """llama.cpp's sampler of a grammar."""

    def __init__(self, model: LlamaModel, grammar: str) -> None:
        self._low = library()
        vocab = self._low.llama_model_get_vocab(model._native)  # pyright: ignore[reportPrivateUsage]
        self._size = model.facts.vocab.size
        self._sampler: Any = self._low.llama_sampler_init_grammar(vocab, grammar.encode(), b"root")
        assert self._sampler

    def allowed(self) -> list[int]:
        rows = np.zeros(self._size, ROW)
        rows["id"] = np.arange(self._size)
        apply(self._sampler, rows)
        return np.flatnonzero(rows["logit"] > -np.inf).tolist()

    def accept(self, token: int) -> None:
        self._low.llama_sampler_accept(self._sampler, token)

    def close(self) -> None:
        self._low.llama_sampler_free(self._sampler)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("grammar", GRAMMARS)
def test_both_allow_the_same_tokens(model: LlamaModel, grammar: str, seed: int) -> None:
    random = Random(seed)
    vocab = model.facts.vocab
    pieces = Pieces(model.pieces(range(vocab.size)), vocab.end_tokens)
    automaton, native = Automaton(grammar), _Native(model, grammar)
    state = automaton.start
    for _ in range(12):
        ours = sorted(pieces.allowed(automaton, state))
        assert _comparable(model, ours) == _comparable(model, native.allowed())
        going_on = [token for token in _comparable(model, ours) if token not in vocab.end_tokens]
        if not going_on:
            break
        token = random.choice(going_on)
        native.accept(token)
        after = pieces.after(automaton, state, token)
        assert after is not None
        state = after
    native.close()


def _comparable(model: LlamaModel, tokens: list[int]) -> list[int]:
    """Of the tokens those where both mean the same: llama.cpp lets bytes pass that begin no character, refuses the NUL byte
    everywhere, and takes a control token for the text of its name, which is not in the answer then.
    """
    ends = model.facts.vocab.end_tokens
    plain = [piece.isascii() and bool(piece.strip(b"\0")) for piece in model.pieces(tokens)]
    return [token for token, is_plain in zip(tokens, plain, strict=True) if is_plain or token in ends]


def test_held_logits_of_which_every_token_is_forbidden_are_a_typed_error(model: LlamaModel) -> None:
    context = model.new_context(ContextSettings(num_ctx=256))
    context.decode([Run(0, 0, [1, 2], 1)])
    never = tuple((token, float("-inf")) for token in range(model.facts.vocab.size))
    sampler = model.new_sampler(Sampling(logit_bias=never))
    with pytest.raises(SettingsError, match="forbids every token"):
        context.sample(Held((context.logits(0),)), sampler)
    sampler.close()
    context.close()
