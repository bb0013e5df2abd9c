"""An arena over a backend that exposes its KV: the token tree drives it."""

from __future__ import annotations

from collections.abc import Sequence

from sessiond.adapters.base import (
    DEFAULT_LAST_N,
    Aborted,
    ContextSettings,
    KvContext,
    Model,
    Run,
    Sampling,
)
from sessiond.daemon.engine.arena import Emit, Told
from sessiond.daemon.engine.tree import TokenTree
from sessiond.daemon.engine.work import Compute, Finish, Replay, Reuse, Work


class KvArena:
    """See `Arena`."""

    def __init__(self, model: Model, context: KvContext) -> None:
        self._model = model
        self._context = context
        self._cuts = model.facts.capabilities.truncate
        self._tree = TokenTree(context, cuts=self._cuts)
        self._end_tokens = model.facts.vocab.end_tokens
        self._rows: dict[str, int] = {}
        """By branch, the run of the last decode whose logits are those after its tip."""

    @property
    def settings(self) -> ContextSettings:
        """See `Arena.settings`."""
        return self._context.settings

    @property
    def cell_bytes(self) -> int:
        """See `Arena.cell_bytes`."""
        return self._context.cell_bytes

    def open(self, branch: str) -> None:
        """See `Arena.open`."""
        self._tree.open(branch)

    def close(self, branch: str) -> None:
        """See `Arena.close`."""
        self._tree.close(branch)
        self._rows.pop(branch, None)

    def tokens(self, branch: str) -> list[int]:
        """See `Arena.tokens`."""
        return self._tree.tokens(branch)

    def advance(self, branch: str, tokens: Sequence[int], told: Told) -> Work[Reuse]:
        """See `Arena.advance`."""
        target = list(tokens)
        start = self._walk(branch, target)
        computed, at = 0, start
        told(at, len(target))
        while at < len(target):
            yield Compute(branch, target[at : at + self.settings.num_ubatch])
            computed += self._tree.length(branch) - at
            at = self._walk(branch, target)  # another branch may have computed what comes next
            told(at, len(target))
        return Reuse(len(target) - computed, 0, computed, "counted")

    def generate(
        self, branch: str, tokens: Sequence[int], sampling: Sampling, max_tokens: int, emit: Emit
    ) -> Work[Finish]:
        """See `Arena.generate`. The last token of an answer is computed too, so that all of it is resident."""
        yield from self.advance(branch, tokens, lambda _done, _total: None)
        sampler = self._model.new_sampler(sampling)
        try:
            sampler.prime(tokens[-(sampling.repeat_last_n or DEFAULT_LAST_N) :])
            for _ in range(max_tokens):
                row = yield from self._row(branch)
                token = self._context.sample(row, sampler)
                if token in self._end_tokens:
                    return Finish("stop")
                finish = emit(token)
                yield from self._put(branch, token)
                if finish is not None:
                    return finish
            return Finish("length")
        finally:
            sampler.close()

    def logits(self, branch: str, tokens: Sequence[int]) -> Work[bytes]:
        """See `Arena.logits`."""
        yield from self.advance(branch, tokens, lambda _done, _total: None)
        row = yield from self._row(branch)
        return self._context.logits(row)

    def compute(self, wishes: Sequence[Compute | Replay]) -> list[Exception | None]:
        """See `Arena.compute`."""
        outcomes: list[Exception | None] = []
        runs: list[tuple[Compute | Replay, Run]] = []
        for wish in wishes:
            try:
                runs.append((wish, self._run(wish)))
                outcomes.append(None)
            except Exception as error:  # noqa: BLE001 - the fault of one wish must not be its neighbours'
                outcomes.append(error)
        self._rows = {}
        if runs:
            self._decode(runs)
        return outcomes

    def abort(self) -> None:
        """See `Arena.abort`."""
        self._context.abort()

    def clear_abort(self) -> None:
        """See `Arena.clear_abort`."""
        self._context.clear_abort()

    def check_integrity(self) -> None:
        """See `Arena.check_integrity`."""
        self._tree.check_integrity()

    def shut(self) -> None:
        """See `Arena.shut`."""
        self._context.close()

    def _walk(self, branch: str, tokens: list[int]) -> int:
        if self._tree.walk(branch, tokens):
            # Another tip, be it as far from the root: the logits at hand are not those after it.
            self._rows.pop(branch, None)
        return self._tree.length(branch)

    def _run(self, wish: Compute | Replay) -> Run:
        if isinstance(wish, Replay):
            sequence, position, token = self._tree.borrow(wish.branch)
            return Run(sequence, position, [token], want_logits=True)
        sequence, position = self._tree.extend(wish.branch, len(wish.tokens))
        return Run(sequence, position, wish.tokens, want_logits=True)

    def _decode(self, runs: list[tuple[Compute | Replay, Run]]) -> None:
        whole = True
        try:
            self._context.decode([run for _, run in runs])
        except Aborted:
            whole = False
        except BaseException:
            for wish, _ in runs:
                self._tree.release(wish.branch)
            raise
        for index, (wish, run) in enumerate(runs):
            self._settle(wish, run)
            # Where another branch had computed the same, ours may stand short of the run's end.
            if whole and self._tree.length(wish.branch) == run.position + len(run.tokens):
                self._rows[wish.branch] = index

    def _settle(self, wish: Compute | Replay, run: Run) -> None:
        """Take over what was computed: all of it, or the micro-batches before an abort."""
        done = self._context.end(run.sequence) - run.position
        if isinstance(wish, Replay) or done <= 0:
            self._tree.release(wish.branch)
        else:
            self._tree.grow(wish.branch, list(run.tokens[:done]))

    def _row(self, branch: str) -> Work[int]:
        """The run whose logits are those after the branch's tip. After an exact hit there are none that are
        fresh, and the last token is computed again: then, and only then.
        """
        while branch not in self._rows:
            if not self._cuts:
                yield from self._again(branch)
                continue
            token = self._tree.pop(branch)
            if token is None:
                yield Replay(branch)
            else:
                yield from self._put(branch, token)
        return self._rows[branch]

    def _again(self, branch: str) -> Work[None]:
        """Compute the whole branch anew: where nothing can be cut, its last token cannot be had alone."""
        target = self._tree.tokens(branch)
        self._tree.forget(branch)
        while (at := self._tree.length(branch)) < len(target):
            yield Compute(branch, target[at : at + self.settings.num_ubatch])

    def _put(self, branch: str, token: int) -> Work[None]:
        end = self._tree.length(branch) + 1
        while self._tree.length(branch) < end:
            yield Compute(branch, [token])
