"""A loaded model of either form."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from sessiond.adapters.base import (
    BackendError,
    Capabilities,
    ContextSettings,
    Embedder,
    KvContext,
    ModelFacts,
    ModelSettings,
    PromptContext,
    Sampler,
    Sampling,
    Unsupported,
)
from sessiond.adapters.base.grammar import Automata, Guard, Pieces
from sessiond.adapters.scripted import answers, vocab
from sessiond.adapters.scripted.cells import CELL_BYTES
from sessiond.adapters.scripted.embedder import ScriptedEmbedder
from sessiond.adapters.scripted.kv import ScriptedKv
from sessiond.adapters.scripted.options import Options
from sessiond.adapters.scripted.prompt import ScriptedPrompt
from sessiond.adapters.scripted.sampler import ScriptedSampler
from sessiond.adapters.scripted.script import Script
from sessiond.adapters.scripted.settings import resolve

_PIECES = Pieces(vocab.PIECES, vocab.END_TOKENS)


class ScriptedModel:
    """Options, a vocabulary and a script; `exposes_kv` chooses between the two forms."""

    def __init__(
        self,
        backend: str,
        options: Options,
        settings: ModelSettings,
        progress: Callable[[float], None],
        *,
        exposes_kv: bool,
    ) -> None:
        self._options = options
        self._exposes_kv = exposes_kv
        self._script = Script(
            options.die,
            step_ms=options.step_ms,
            load_ms=options.load_ms,
            extra_buffers=settings.extra_buffers,
        )
        self._script.load(progress)
        # The same weights with other low-rank adapters are another model. Both forms answer alike.
        self._root = answers.root(repr((options.weights, settings.loras)))
        self._facts = _facts(backend, options, exposes_kv=exposes_kv)
        self._contexts: list[ScriptedKv | ScriptedPrompt] = []
        self._embedders: list[ScriptedEmbedder] = []
        self._automata = Automata()
        self._closed = False

    @property
    def facts(self) -> ModelFacts:
        return self._facts

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        return vocab.tokenize(text, parse_special=parse_special)

    def pieces(self, tokens: Sequence[int]) -> list[bytes]:
        vocab.check(tokens)
        return [vocab.PIECES[token] for token in tokens]

    def variants(self, settings: ContextSettings) -> Sequence[ContextSettings]:
        return ()  # its time is a script: nothing is faster

    def cell_bytes(self, settings: ContextSettings) -> int:
        return CELL_BYTES if self._exposes_kv else 0

    def free_memory(self) -> int | None:
        return None

    def new_context(self, settings: ContextSettings) -> KvContext | PromptContext:
        if self._closed:
            raise BackendError("scripted: the model is closed")
        options = self._options
        resolved = resolve(settings, options.num_ctx, options.num_cells)
        context: ScriptedKv | ScriptedPrompt
        if self._exposes_kv:
            context = ScriptedKv(
                resolved,
                self._script,
                self._root,
                max_sequences=options.max_sequences,
                no_truncate=options.no_truncate,
            )
        else:
            context = ScriptedPrompt(resolved, self._script, self._root, silent=options.silent)
        self._contexts = [*(each for each in self._contexts if not each.closed), context]
        return context

    def new_sampler(self, sampling: Sampling) -> Sampler:
        if not self._exposes_kv:
            raise Unsupported("samplers")  # it samples by itself, in `answer`
        automaton = self._automata.of(sampling.grammar) if sampling.grammar else None
        return ScriptedSampler(sampling, None if automaton is None else Guard(automaton, _PIECES))

    def new_embedder(self) -> Embedder:
        if not self._options.embed:
            raise Unsupported("embed")
        embedder = ScriptedEmbedder(self._root, self._options.num_ctx, self._script)
        self._embedders.append(embedder)
        return embedder

    def close(self) -> None:
        self._closed = True
        for context in (*self._contexts, *self._embedders):
            context.close()
        self._contexts.clear()


def _facts(backend: str, options: Options, *, exposes_kv: bool) -> ModelFacts:
    vocabulary = vocab.facts(add_bos=options.bos, fim=options.fim)
    return ModelFacts(
        backend=backend,
        backend_version="1",
        description="scripted",
        path="",
        model_digest=hashlib.sha256(f"{options.digest()} {vocabulary.digest}".encode()).hexdigest(),
        size_bytes=0,
        parameters=0,
        num_ctx_train=options.num_ctx,
        vocab=vocabulary,
        capabilities=Capabilities(
            fork=exposes_kv,
            truncate=exposes_kv and not options.no_truncate,
            snapshot=exposes_kv,
            grammar=exposes_kv,
            logprobs=exposes_kv,
            fim=options.fim,
            embed=options.embed,
            deterministic=True,
            reports_reuse=not exposes_kv and not options.silent,
        ),
    )
