"""The workspaces that sessions are about: what editors ask of each, who watches it, and what is kept hot of it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import structlog

from sessiond.daemon.engine.seat import Seat
from sessiond.daemon.sessions.calm import Calm
from sessiond.daemon.sessions.edit_cost import EditCost, expected_edit_cost
from sessiond.daemon.sessions.events import FilesChanged, What
from sessiond.daemon.sessions.failures import unavailable
from sessiond.daemon.sessions.home import Home
from sessiond.daemon.sessions.hot import KeepHot
from sessiond.daemon.sessions.manifest import ManifestSegment
from sessiond.daemon.sessions.ordering import IDLE_S, LOOKS_EVERY_S, Ordering
from sessiond.daemon.sessions.prefix import Prefix
from sessiond.daemon.workspace.assemble import Assembly, TokenCounter, assemble
from sessiond.daemon.workspace.order import Order
from sessiond.daemon.workspace.overlay import Overlay
from sessiond.daemon.workspace.segment import LeftOut
from sessiond.daemon.workspace.watch.watcher import Burst, Watcher
from sessiond.v1.errors import SessiondError, invalid

log = structlog.get_logger(__name__)

MAX_ROOTS = 256
"""Workspaces that may have pins and buffers while no session is about them."""

ASSEMBLIES = 16
"""How many run at once."""

Tell = Callable[[What], None]


@dataclass(frozen=True, slots=True)
class HotKey:
    """What makes two sessions' prefixes of one workspace the same."""

    seat: Seat
    arena: str
    prompt_format: str
    add_bos: bool
    max_tokens: int


@dataclass(frozen=True, slots=True)
class WorkspaceView:
    """What the assembly of a workspace holds now."""

    manifest: tuple[ManifestSegment, ...]
    """In the order of the prefix, its frame included."""
    left_out: tuple[LeftOut, ...]
    pinned: frozenset[str]
    """Paths of the segments that are pinned, by an editor or by the configuration."""
    buffered: frozenset[str]
    """Paths of the segments whose text is an unsaved buffer."""
    watcher_state: str
    keep_hot_state: str
    edit_cost: EditCost | None = None
    """None if nothing is known to be edited."""


class Prefixes(Protocol):
    """Makes the prefix of a session from its workspace."""

    def of_workspace(self, max_tokens: int = 0, order: Order | None = None) -> Awaitable[Prefix]:
        """The prefix as the files are now; `max_tokens` 0 leaves the budget to the daemon, no `order` the order."""
        ...


@dataclass(slots=True)
class _Member:
    """One session."""

    prefixes: Prefixes
    tell: Tell
    key: HotKey | None = None
    """What is kept hot for it."""


@dataclass(slots=True)
class _Watch:
    """The watcher, and the tasks that answer what it tells."""

    watcher: Watcher
    tasks: tuple[asyncio.Task[None], ...]


class Workspace:
    """One folder. In the daemon's event loop."""

    def __init__(
        self,
        root: Path,
        calm: Calm | None,
        heard: Tell = lambda _what: None,
        threads: ThreadPoolExecutor | None = None,
    ) -> None:
        self.root = root
        self._threads = threads or assembling()
        self.overlay = Overlay()
        self._calm = calm
        self._heard = heard
        """Hears what keep-hot tells, once for all sessions."""
        self._assembled = Assembly((), ())
        """As it was last."""
        self._members: dict[str, _Member] = {}
        self._hot: dict[HotKey, KeepHot] = {}
        self._watch: _Watch | None = None
        self._ordering = Ordering(root, self.overlay)
        self._trial: Order | None = None
        """An order in which keep-hot computes, and which sessions are not given yet."""
        self._saved = 0.0
        """When the watcher told of something last, by `time.monotonic`."""
        self._stopping: set[asyncio.Task[None]] = set()

    # Its files.

    async def assemble(self, count: TokenCounter, max_tokens: int, order: Order | None = None) -> Assembly:
        """The files as they are now, in the workspace's order or in one that is tried.

        Raises InvalidInput, PermissionDenied.
        """
        stands = order or await self._ordering.order()

        def now() -> Assembly:
            self.overlay.drop_saved(self.root)
            return assemble(self.root, count, max_tokens, self.overlay.wishes(stands))

        run = contextvars.copy_context().run
        self._assembled = await asyncio.get_running_loop().run_in_executor(self._threads, run, now)
        return self._assembled

    def edit_cost(self, segments: Sequence[ManifestSegment]) -> EditCost | None:
        """What an edit of these segments of a prefix costs; None if nothing is known to be edited."""
        return expected_edit_cost(segments, self._ordering.known, self._assembled.pinned)

    async def view(self) -> WorkspaceView:
        """What its newest session would be given. Raises as `assemble`, and SessionUnavailable."""
        if not self._members:
            raise invalid("workspace_root", "no session is open over this workspace")
        newest = list(self._members.values())[-1]
        with unavailable("a workspace was assembled"):
            prefix = await newest.prefixes.of_workspace()
        return WorkspaceView(
            manifest=tuple(prefix.manifest.segments),
            left_out=prefix.left_out,
            pinned=self._assembled.pinned,
            buffered=self._assembled.buffered,
            watcher_state=self._watch.watcher.state if self._watch else "off",
            keep_hot_state=self._keep_hot_state(),
            edit_cost=self.edit_cost(prefix.manifest.segments),
        )

    def _keep_hot_state(self) -> str:
        states = {hot.state for hot in self._hot.values()}
        return next((state for state in ("running", "waiting", "idle") if state in states), "off")

    # Its sessions.

    @property
    def is_idle(self) -> bool:
        """Whether no session is about it."""
        return not self._members

    def join(self, session: str, prefixes: Prefixes, tell: Tell) -> None:
        """A session is about this workspace; `tell` hears what happens here."""
        self._members[session] = _Member(prefixes, tell)

    def follow(self, session: str, home: Home, key: HotKey, prefix: Prefix) -> None:
        """Keep the prefix hot that this session was just brought to."""
        member = self._members.get(session)
        if member is None or self._calm is None:
            return
        if member.key != key:
            self.unfollow(session)
            member.key = key
            if key not in self._hot:
                self._drop_trial()  # nobody computes the new one's prefix in that order
                self._hot[key] = self._new_hot(member.prefixes, home, key, self._calm)
        self._hot[key].stands(prefix)
        if self._watch is None:
            watcher = Watcher(self.root)
            tasks = (self._listen(watcher), self._look_again(home))
            self._watch = _Watch(watcher, tuple(map(asyncio.create_task, tasks)))

    def _new_hot(self, prefixes: Prefixes, home: Home, key: HotKey, calm: Calm) -> KeepHot:
        def tell(what: What) -> None:
            self._heard(what)
            for member in self._members.values():
                if member.key == key:
                    member.tell(what)

        return KeepHot(home, lambda: prefixes.of_workspace(key.max_tokens, self._trial), tell, calm)

    def unfollow(self, session: str) -> None:
        """Nothing is kept hot for this session any more. `settled` waits until what that took is given back."""
        member = self._members.get(session)
        key = member.key if member is not None else None
        if member is not None:
            member.key = None
        wanted = {each.key for each in self._members.values()}
        hot = self._hot.pop(key, None) if key is not None and key not in wanted else None
        watch = None
        if not self._hot:
            watch, self._watch = self._watch, None
            self._trial = None
        if hot is not None or watch is not None:
            task = asyncio.create_task(_stop(hot, watch))
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    def leave(self, session: str) -> None:
        """A session ended; else as `unfollow`."""
        self.unfollow(session)
        self._members.pop(session, None)

    async def settled(self) -> None:
        """Wait until all is given back that is not used any more. Whoever is cancelled here stops nothing: others wait for
        the same.
        """
        if self._stopping:
            await asyncio.wait(self._stopping)

    async def stop(self) -> None:
        """Let go of everything."""
        for session in list(self._members):
            self.leave(session)
        await self.settled()

    # What happens there.

    def changed(self, burst: Burst) -> None:
        """Files changed, or what editors ask."""
        for member in self._members.values():
            member.tell(FilesChanged(tuple(sorted(burst.paths))))
        self._drop_trial()  # somebody is at work: what is computed next is what they will ask for
        for hot in self._hot.values():
            hot.changed(burst.began)

    def engine_restarted(self, seat: Seat) -> None:
        """Bring back what was kept hot there."""
        for key, hot in self._hot.items():
            if key.seat is seat:
                hot.gone()

    async def _look_again(self, home: Home) -> None:
        """Looks for a better order whenever nobody waits, if files were saved since."""
        while True:
            await self._ordering.stirred.wait()
            while min(home.quiet_s(self.root), time.monotonic() - self._saved) < IDLE_S:  # noqa: ASYNC110 - nobody tells of rest
                await asyncio.sleep(LOOKS_EVERY_S)
            try:
                better = await self._ordering.better(self._moved_by_order())
            except (SessiondError, OSError) as error:
                log.info("order.unread", root=str(self.root), error=str(error))
                continue
            if better is not None:
                await self._try(better)

    def _drop_trial(self) -> None:
        """Try no order now, but again once nobody waits."""
        if self._trial is not None:
            self._trial = None
            self._ordering.stirred.set()

    def _moved_by_order(self) -> list[str]:
        """The files in the prefix that an order moves."""
        assembled = self._assembled
        return [
            each.path
            for each in assembled.segments
            if each.kind == "file" and each.path not in assembled.pinned
        ]

    async def _try(self, order: Order) -> None:
        """Have keep-hot compute all prefixes in this order, and give it to sessions if that comes to its end."""
        self._trial = order
        began = time.monotonic()
        for hot in self._hot.values():
            hot.changed(began)
        while any(hot.state != "idle" for hot in self._hot.values()):  # noqa: ASYNC110 - nobody tells of a run that failed
            await asyncio.sleep(LOOKS_EVERY_S)
        if self._trial is not order:
            return
        self._trial = None
        if all(hot.up_to_date for hot in self._hot.values()):
            self._ordering.adopt(order)
            log.info("order.changed", root=str(self.root), took_ms=(time.monotonic() - began) * 1e3)
        else:
            log.info("order.not_changed", root=str(self.root))

    async def _listen(self, watcher: Watcher) -> None:
        try:
            async with contextlib.aclosing(watcher.bursts()) as bursts:
                async for burst in bursts:
                    self._saved = time.monotonic()
                    self._ordering.saved(burst.paths)
                    self.changed(burst)
        except OSError as error:
            # Every EnsurePrefix reads the files anyway: what is lost is the time between a save and a question.
            log.warning("watcher.failed", root=str(self.root), error=str(error))


def assembling() -> ThreadPoolExecutor:
    """Threads for assemblies alone. They wait for engines, which may have to be started: in threads that others use too,
    whatever an engine needs to start could stand behind those who wait for it.
    """
    return ThreadPoolExecutor(ASSEMBLIES, "assembly")


async def _stop(hot: KeepHot | None, watch: _Watch | None) -> None:
    if watch is not None:
        for task in watch.tasks:
            task.cancel()
        await asyncio.gather(*watch.tasks, return_exceptions=True)
    if hot is not None:
        await hot.stop()


@dataclass(slots=True)
class Workspaces:
    """All of them, by their roots. Without `calm` nothing is kept hot."""

    calm: Calm | None = field(default_factory=Calm)
    heard: Tell = lambda _what: None
    """Hears what keep-hot tells of any of them."""
    _by_root: dict[Path, Workspace] = field(default_factory=dict[Path, Workspace])
    _threads: ThreadPoolExecutor = field(default_factory=assembling)

    def of(self, root: Path) -> Workspace:
        """The workspace of this root, new if need be."""
        if root not in self._by_root:
            for idle in [each for each in self._by_root.values() if each.is_idle and each.overlay.is_empty]:
                del self._by_root[idle.root]
            self._by_root[root] = Workspace(root, self.calm, self.heard, self._threads)
        return self._by_root[root]

    def overlay(self, root: Path) -> Overlay:
        """What editors ask of a workspace. Raises InvalidInput where too many are asked something of."""
        if root not in self._by_root and sum(each.is_idle for each in self._by_root.values()) >= MAX_ROOTS:
            raise invalid("workspace_root", f"{MAX_ROOTS} workspaces without a session have pins or buffers")
        return self.of(root).overlay

    def changed(self, root: Path, paths: Collection[str] = ()) -> None:
        """What editors ask of a workspace changed, for these files."""
        self.of(root).changed(Burst(frozenset(paths), rescan=False, began=time.monotonic()))

    def engine_restarted(self, seat: Seat) -> None:
        """An engine took the place of one that died: nothing is hot there any more."""
        for workspace in self._by_root.values():
            workspace.engine_restarted(seat)

    async def view(self, root: Path) -> WorkspaceView:
        """See `Workspace.view`. Raises InvalidInput where no session is about it."""
        return await self.of(root).view()

    async def stop(self) -> None:
        """Let go of everything."""
        for workspace in self._by_root.values():
            await workspace.stop()

    async def ended(self) -> None:
        """Wait until no assembly runs any more, and begin none. Once no engine can be started: one that waits for an engine
        ends then, while the event loop is still there to tell it so.
        """
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
