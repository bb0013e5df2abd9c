"""An arena over a backend that exposes its KV: the token tree drives it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sessiond.adapters.base import (
    DEFAULT_LAST_N,
    Aborted,
    ContextSettings,
    KvContext,
    Model,
    NoRoom,
    Run,
    Sampling,
    Unsupported,
)
from sessiond.daemon.engine import carried
from sessiond.daemon.engine.answer import Answer, Wanted, row_after
from sessiond.daemon.engine.arena import NO_LEGS, Emit, Guessing, Legs, Scored, Told, unheard
from sessiond.daemon.engine.beginnings import Beginnings
from sessiond.daemon.engine.disk.keys import unpack
from sessiond.daemon.engine.disk_link import DiskLink, WriteBehind
from sessiond.daemon.engine.integrity import check_tree
from sessiond.daemon.engine.memory_tier import MemoryTier
from sessiond.daemon.engine.rates import Rates
from sessiond.daemon.engine.reach import Reach
from sessiond.daemon.engine.rows import Rows, Tail
from sessiond.daemon.engine.tree import TokenTree
from sessiond.daemon.engine.weighing import weigh
from sessiond.daemon.engine.work import (
    Adopt,
    Batchable,
    Compute,
    Finish,
    Receive,
    Restore,
    Reuse,
    Taken,
    Work,
)


class KvArena:
    """See `Arena`. `again` makes another context of the same settings, for after `park`. Where a sequence cannot be cut,
    nothing goes to the `disk`.
    """

    def __init__(
        self,
        model: Model,
        context: KvContext,
        tier: MemoryTier | None = None,
        again: Callable[[], KvContext] | None = None,
        disk: DiskLink | None = None,
    ) -> None:
        self._model = model
        self._context = context
        self._again = again
        self._parked = False
        self._cuts = model.facts.capabilities.truncate
        self.rates = Rates()
        self._tier = tier
        self._carries = carried.can_be_carried(model.facts.capabilities)
        self._disk = disk if self._carries else None
        self._tree = self._new_tree()
        self._reach = Reach(self._tree, context, self.rates, self._disk, cuts=self._cuts)
        self._end_tokens = model.facts.vocab.end_tokens
        self._rows = Rows()
        self._beginnings = Beginnings()

    def _new_tree(self) -> TokenTree:
        tree = TokenTree(self._context, self._tier, self.rates.restoring_pays, cuts=self._cuts)
        self._behind = WriteBehind(tree, self._disk, self.cell_bytes) if self._disk is not None else None
        return tree

    @property
    def settings(self) -> ContextSettings:
        """See `Arena.settings`."""
        return self._context.settings

    @property
    def cell_bytes(self) -> int:
        """See `Arena.cell_bytes`."""
        return self._context.cell_bytes

    @property
    def cells(self) -> int:
        """See `Arena.cells`."""
        return self._context.cells

    @property
    def moves(self) -> int:
        """Grows whenever KV of a branch may have moved without it."""
        return self._tree.moves

    def open(
        self, branch: str, parent: str | None = None, keeps: int | None = None, *, yields: bool = False
    ) -> None:
        """See `Arena.open`."""
        self._tree.open(branch, parent, keeps, yields=yields)

    def close(self, branch: str) -> None:
        """See `Arena.close`."""
        self._tree.close(branch)

    def tokens(self, branch: str) -> list[int]:
        """See `Arena.tokens`."""
        return self._tree.tokens(branch)

    def residence(self, branch: str) -> tuple[int, int]:
        """See `Arena.residence`."""
        resident = self._tree.resident(branch)
        return resident, self._tree.length(branch) - resident

    def missing(self, tokens: Sequence[int]) -> int:
        """See `Arena.missing`."""
        return len(tokens) - self._tree.match(tokens)

    def advance(
        self, branch: str, tokens: Sequence[int], told: Told, borders: Sequence[int] = ()
    ) -> Work[Reuse]:
        """See `Arena.advance`."""
        target = list(tokens)
        return (yield from self._reach.to(branch, target, told, self._reach.stops(borders, len(target))))

    def generate(
        self,
        branch: str,
        tokens: Sequence[int],
        sampling: Sampling,
        max_tokens: int,
        emit: Emit,
        scored: Scored = unheard,
        guessing: Guessing | None = None,
        legs: Legs = NO_LEGS,
    ) -> Work[Finish]:
        """See `Arena.generate`. Where a sequence cannot be cut, nothing is guessed: what was wrong could not be dropped."""
        target = list(tokens)
        sampler = self._model.new_sampler(sampling)
        try:
            for end in legs.ends:
                legs.reached((yield from self.advance(branch, target[:end], legs.told, legs.borders)))
            yield from self._reach.to(branch, target, stops=self._reach.stops((), len(target)))
            sampler.prime(tokens[-(sampling.repeat_last_n or DEFAULT_LAST_N) :])
            wanted = Wanted(sampling, max_tokens, emit, scored, guessing if self._cuts else None)
            answer = Answer(
                *(self._reach, self._rows, self._beginnings, self.rates.step, self._end_tokens),
                *(branch, target, wanted, sampler),
            )
            return (yield from answer.said())
        finally:
            sampler.close()

    def logits(self, branch: str, tokens: Sequence[int]) -> Work[bytes]:
        """See `Arena.logits`."""
        target = list(tokens)
        yield from self._reach.to(branch, target, stops=self._reach.stops((), len(target)))
        run = yield from row_after(self._reach, self._rows, branch, target)
        return self._context.logits(run)

    def weigh(self, branch: str, tokens: Sequence[int], more: Sequence[int]) -> Work[list[float]]:
        """See `Arena.weigh`."""
        return (yield from weigh(self._reach, self._rows, branch, tokens, more))

    def save(self, branch: str, tokens: Sequence[int], start: int, end: int) -> Work[bytes]:
        """See `Arena.save`."""
        if not self._carries:
            raise Unsupported("snapshot")
        return (yield from carried.saved(self._reach, branch, tokens, start, end))

    def load(
        self, branch: str, tokens: Sequence[int], start: int, num_cells: int, payload: bytes
    ) -> Work[Taken]:
        """See `Arena.load`."""
        if not self._carries:
            raise Unsupported("snapshot")
        if num_cells != self.settings.num_cells:
            return Taken((yield from self._reach.to(branch, list(tokens))).prefilled)
        return (yield from carried.loaded(self._reach, branch, tokens, start, payload))

    def compute(self, wishes: Sequence[Batchable], standing: Sequence[str]) -> list[Exception | None]:
        """See `Arena.compute`."""
        if self._parked:
            self._wake()
        outcomes: list[Exception | None] = []
        runs: list[tuple[Compute, Run]] = []
        for wish in wishes:
            before = standing[: standing.index(wish.branch)]
            try:
                self._take(wish, before, runs)
                outcomes.append(None)
            except NoRoom as full:
                # Whoever is before it will end, and leave room.
                outcomes.append(None if before or runs else full)
            except Exception as error:  # noqa: BLE001 - the fault of one wish must not be its neighbours'
                outcomes.append(error)
        if runs:
            self._decode(runs)
        return outcomes

    def _take(self, wish: Batchable, keep: Sequence[str], runs: list[tuple[Compute, Run]]) -> None:
        """Restore at once, or add to the batch; nothing where the wish is out of date."""
        if isinstance(wish, Restore):
            self._restore(wish, keep)
            return
        if isinstance(wish, Receive):
            self._receive(wish, keep)
            return
        if isinstance(wish, Adopt):
            carried.adopt(self._tree, wish, keep)
            return
        if not self._tree.stands(wish.branch, wish.position):
            return
        spot = self._tree.spot(wish.branch)
        if any(
            self._tree.spot(other.branch) == spot and other.tokens[0] == wish.tokens[0] for other, _ in runs
        ):
            return  # the same is being computed: it can be walked to afterwards
        spare = self._context.more_rows - sum(run.want_logits - 1 for _, run in runs)
        wish = wish.cut(len(wish.tokens) - max(0, wish.rows - 1 - spare))
        sequence, position = self._tree.extend(wish.branch, len(wish.tokens), keep)
        runs.append((wish, Run(sequence, position, wish.tokens, wish.rows)))

    def _restore(self, wish: Restore, keep: Sequence[str]) -> None:
        ahead = self._tree.ahead(wish.branch, wish.tokens)
        if not ahead:
            return
        node, _matched = ahead[0]
        size = len(node.kept or b"")
        began = time.monotonic()
        try:
            done = self._tree.restore(wish.branch, node, keep)
        except NoRoom:
            if keep:
                raise
            self._tree.discard(node)  # a part of it may do, and that is computed
            return
        if done:
            self.rates.restored(size, time.monotonic() - began)
            self._tree.walk(wish.branch, wish.tokens)  # before another wish takes it for what nobody holds

    def _receive(self, wish: Receive, keep: Sequence[str]) -> None:
        found, disk = wish.found, self._disk
        wish.tried = True
        if disk is None or (tokens := self._goes_on(wish)) is None:
            return
        began = time.monotonic()
        disk.begin_use(found)
        try:
            skip = found.entry.label.count - len(tokens)
            done = self._tree.receive(wish.branch, tokens, wish.payload, keep, skip)
        except NoRoom:
            disk.refused(found, "")
            # Whoever is before it will end, and leave room. If nobody is, a part of it may do, and that is computed.
            wish.tried = not keep
            return
        if not done:
            disk.refused(found, "the backend refused it")
            return
        # Of entries that follow each other, one is read while the one before it is loaded: whichever takes longer counts.
        seconds = max(wish.read_s, wish.waited_s + time.monotonic() - began)
        self.rates.fetched(len(wish.payload), seconds)
        self._tree.walk(wish.branch, wish.tokens)  # before another wish takes it for what nobody holds

    def _goes_on(self, wish: Receive) -> list[int] | None:
        """The tokens of an entry that follow the branch's tip; None if they do not, or it has nothing for the branch. What it
        has before them is compared with what stands there.
        """
        found, at = wish.found, self._tree.length(wish.branch)
        if not found.start <= at < found.end or not self._tree.stands(wish.branch, at):
            return None
        tokens, has = unpack(found.entry.label.tokens), self._tree.tokens(wish.branch)
        skip = at - found.start
        if has != list(wish.tokens[:at]) or has[found.start :] != tokens[:skip]:
            return None
        return tokens[skip:]

    def _decode(self, runs: list[tuple[Compute, Run]]) -> None:
        whole = True
        self._rows.forget()
        began = time.monotonic()
        try:
            self._context.decode([run for _, run in runs])
        except Aborted:
            whole = False
        except BaseException as error:
            for wish, _ in runs:
                self._tree.release(wish.branch)
            if self._disk is not None:
                refused = isinstance(error, NoRoom)
                self._disk.settle("" if refused else f"the backend failed behind it: {type(error).__name__}")
            raise
        if self._disk is not None:
            self._disk.settle()
        if whole:
            tokens, seconds = sum(len(run.tokens) for _, run in runs), time.monotonic() - began
            if any(len(run.tokens) > run.want_logits for _, run in runs):
                self.rates.computed(tokens, seconds)  # guesses and steps alone say nothing of bulk work
            self.rates.step.took(tokens, seconds)
        for index, (wish, run) in enumerate(runs):
            self._settle(wish, run)
            if whole:
                tail = Tail(index, run.position + len(run.tokens), run.want_logits)
                self._rows.keep(wish.branch, tail, self._tree.spot(wish.branch))

    def _settle(self, wish: Compute, run: Run) -> None:
        """Take over what was computed: all of it, or the micro-batches before an abort."""
        done = self._context.end(run.sequence) - run.position
        self._tree.computed(max(0, done))
        if done <= 0:
            self._tree.release(wish.branch)
        else:
            self._tree.grow(wish.branch, list(run.tokens[:done]))

    def abort(self) -> None:
        """See `Arena.abort`."""
        self._context.abort()

    def clear_abort(self) -> None:
        """See `Arena.clear_abort`."""
        self._context.clear_abort()

    def check_integrity(self) -> None:
        """See `Arena.check_integrity`."""
        if not self._parked:
            check_tree(self._tree)

    def shed(self) -> bool:
        """See `Arena.shed`."""
        return not self._parked and self._tree.shed()

    def make_way(self, tokens: int, standing: Sequence[str], *, returns: bool = False) -> None:
        """See `Arena.make_way`."""
        if not self._parked:
            self._tree.make_way(tokens, standing, returns=returns)

    def write_behind(self, *, in_passing: bool = False) -> float | None:
        """See `Arena.write_behind`."""
        if self._disk is None or self._behind is None:
            return None
        if not in_passing:  # else whoever was given something is about to compute on
            self._disk.settle()
        return self._behind.step()

    @property
    def parked(self) -> bool:
        """Whether the cells are given back."""
        return self._parked

    def park(self) -> None:
        """See `Arena.park`."""
        if self._again is not None and not self._parked:
            self._tree.leave_cells()
            self._rows.forget()
            self._context.close()
            self._parked = True

    def _wake(self) -> None:
        assert self._again is not None
        self._context = self._again()
        self._tree.enter(self._context)
        self._parked = False

    def reset(self) -> None:
        """See `Arena.reset`."""
        if self._disk is not None:
            self._disk.settle()
        old = self._tree
        self._rows.forget()
        self._beginnings.forget()
        old.forget_memory()
        if self._again is not None:
            self._context.close()
            self._parked = True
        else:
            for sequence in range(self._context.max_sequences):
                self._context.drop(sequence)
        self._tree = self._reach.tree = self._new_tree()
        self._tree.moves = old.moves + 1
        for branch in old.tips:
            self._tree.open(branch, keeps=old.keeps.get(branch), yields=branch in old.yielding)

    def shut(self) -> None:
        """See `Arena.shut`."""
        if self._disk is not None:
            self._disk.settle()
        self._tree.forget_memory()
        self._context.close()
