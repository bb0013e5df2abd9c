"""The form that takes whole prompts and keeps a prefix cache of its own."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence

from sessiond.adapters.base import Aborted, BackendError, ContextSettings, NoRoom, Prompted, Sampling
from sessiond.adapters.scripted import answers, vocab
from sessiond.adapters.scripted.sampler import ScriptedSampler
from sessiond.adapters.scripted.script import Script

_MAX_CACHED = 1 << 20


class ScriptedPrompt:
    """A context that remembers the state of each prefix it has computed. Answers may run side by side."""

    def __init__(self, settings: ContextSettings, script: Script, root: bytes, *, silent: bool) -> None:
        self._settings = settings
        self._script = script
        self._root = root
        self._silent = silent
        self._seen: set[bytes] = set()
        """States of all prefixes that were computed, of answers too: a state stands for its whole prefix."""
        self._aborted = threading.Event()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether it was closed, by itself or with its model. Not part of the interface."""
        return self._closed

    @property
    def settings(self) -> ContextSettings:
        return self._settings

    def answer(
        self, prompt: Sequence[int], sampling: Sampling, max_tokens: int
    ) -> Generator[Prompted, None, None]:
        """As in the interface. What can be refused is refused here, and not at the first token."""
        self._check_open()
        if not prompt or max_tokens < 1:
            raise BackendError("scripted: a prompt and an answer have at least one token")
        vocab.check(prompt)
        sampler = ScriptedSampler(sampling)
        sampler.prime(prompt)
        if len(prompt) >= self._settings.num_ctx:
            raise NoRoom(
                f"scripted: a prompt of {len(prompt)} tokens in a window of {self._settings.num_ctx}"
            )
        return self._answer(tuple(prompt), sampler, max_tokens)

    def abort(self) -> None:
        self._aborted.set()

    def clear_abort(self) -> None:
        self._aborted.clear()

    def close(self) -> None:
        self._closed = True
        self._seen = set()

    def _answer(
        self, prompt: tuple[int, ...], sampler: ScriptedSampler, max_tokens: int
    ) -> Generator[Prompted, None, None]:
        states = [self._root]
        for token in prompt:
            states.append(answers.step(states[-1], token))
        cached = 0
        while cached < len(prompt) and states[cached + 1] in self._seen:
            cached += 1
        self._script.decode()
        for start in range(cached, len(prompt), self._settings.num_ubatch):
            self._compute(states[start + 1 : start + 1 + self._settings.num_ubatch])
        state, token = states[-1], prompt[-1]
        for length in range(len(prompt) + 1, len(prompt) + 1 + max_tokens):
            token = sampler.choose(answers.logits(state, token))
            yield Prompted(token, None if self._silent else cached)
            if token in vocab.END_TOKENS or length == len(prompt) + max_tokens:
                return
            if length >= self._settings.num_ctx:
                raise NoRoom(f"scripted: the window of {self._settings.num_ctx} is full")
            state = answers.step(state, token)
            self._script.decode()
            self._compute([state])

    def _compute(self, states: Sequence[bytes]) -> None:
        """One micro-batch. Raises Aborted."""
        self._check_open()
        if not self._script.micro_batch(self._aborted):
            raise Aborted("scripted: aborted")
        if len(self._seen) > _MAX_CACHED:
            self._seen.clear()
        self._seen.update(states)

    def _check_open(self) -> None:
        if self._closed:
            raise BackendError("scripted: the context is closed")
