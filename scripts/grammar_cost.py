#!/usr/bin/env python3
"""What a grammar costs for each token, and log probabilities do: in milliseconds, with a GGUF model, beside nothing.

A choice is made again and again after one text. `look` is a look at the whole vocabulary, which happens after eight refusals
only; `llama_look` is llama.cpp's own, which happens after one. Prints one JSON object; it has no target.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from sessiond.adapters.base import ContextSettings, ModelSettings, Run, Sampling
from sessiond.adapters.base.grammar import Automaton, Pieces
from sessiond.adapters.llama_cpp import ADAPTER, embedded_model
from sessiond.adapters.llama_cpp.candidates import ROW, apply
from sessiond.adapters.llama_cpp.library import library
from sessiond.adapters.llama_cpp.model import LlamaModel

TEXT = "Some text that goes on like this one"
FREE = "root ::= .*"
GRAMMARS = {"all": FREE, "words": "root ::= [a-z ]*", "two": 'root ::= "yes" | "no"'}


def _ms(act: Callable[[], object], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        act()
    return round((time.perf_counter() - began) / count * 1e3, 3)


def _llama_look(model: LlamaModel, grammar: str) -> float:
    low, size = library(), model.facts.vocab.size
    vocab = low.llama_model_get_vocab(model._native)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - llama.cpp asks for it
    sampler = low.llama_sampler_init_grammar(vocab, grammar.encode(), b"root")
    rows = np.zeros(size, ROW)
    rows["id"] = np.arange(size)
    taken = _ms(lambda: apply(sampler, rows), 1)
    low.llama_sampler_free(sampler)
    return taken


def _measured(model: LlamaModel) -> dict[str, object]:
    context = model.new_context(ContextSettings(num_ctx=512))
    context.decode([Run(0, 0, model.tokenize(TEXT, parse_special=False), want_logits=True)])
    vocab = model.facts.vocab
    told: dict[str, object] = {
        "pieces": _ms(lambda: Pieces(model.pieces(range(vocab.size)), vocab.end_tokens), 1),
        "logprobs": _ms(lambda: context.likely(0, 1, 20), 100),
    }
    for temperature in (0.0, 0.8):
        for name, grammar in (("free", ""), ("grammar", FREE)):
            sampler = model.new_sampler(Sampling(temperature=temperature, seed=1, grammar=grammar))
            told[f"{name} at {temperature}"] = _ms(partial(context.sample, 0, sampler), 200)
            sampler.close()
    pieces = Pieces(model.pieces(range(vocab.size)), vocab.end_tokens)
    for name, grammar in GRAMMARS.items():
        automaton = Automaton(grammar)
        told[f"look: {name}"] = _ms(partial(pieces.allowed, automaton, automaton.start), 1)
        told[f"llama_look: {name}"] = _llama_look(model, grammar)
    return told


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=embedded_model(), help="a GGUF file")
    model = ADAPTER.load(parser.parse_args().model, ModelSettings(), lambda _share: None)
    assert isinstance(model, LlamaModel)
    print(json.dumps(_measured(model)))
    model.close()


if __name__ == "__main__":
    main()
