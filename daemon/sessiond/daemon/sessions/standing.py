"""Where a session stands: what it is, how much of that is resident, and why its prefix had to be computed again last."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sessiond.daemon.engine.wire import Advanced
from sessiond.daemon.sessions.content import Content, common
from sessiond.daemon.sessions.events import Invalidated, What
from sessiond.daemon.sessions.manifest import Identity
from sessiond.daemon.sessions.miss import Miss, explain_miss
from sessiond.daemon.sessions.prefix import Prefix, empty_prefix
from sessiond.daemon.sessions.residency import Residency
from sessiond.daemon.sessions.statuses import PrefixStatus, SuffixStatus
from sessiond.daemon.sessions.suffix import Suffix
from sessiond.daemon.sessions.unstable import Instability


class Standing:
    """See the module. In the daemon's event loop; `tell` hears why a prefix was computed again."""

    def __init__(
        self, name: str, identity: Identity, prompt_format: str, num_ctx: int, tell: Callable[[What], None]
    ) -> None:
        self._empty = Content(empty_prefix(identity))
        self._prompt_format = prompt_format
        self._num_ctx = num_ctx
        self._tell = tell
        self._instability = Instability(name)
        self.content = self._empty
        self.residency = Residency()
        self.miss: Miss | None = None
        self.asked: frozenset[str] = frozenset()
        """The words of the last question."""
        self._late: tuple[int, int] | None = None
        """How KV of the branch moved after the last job of the turn that still runs."""

    @property
    def tokens(self) -> list[int]:
        """All of them."""
        return self.content.tokens

    def become(self, content: Content, residency: Residency | None = None) -> None:
        """Be something else, of which so much is resident; nothing if that is not said."""
        self.content, self.residency, self.miss = content, residency or Residency(), None

    def become_prefix(self, prefix: Prefix) -> None:
        """As `become`, with nothing behind a prefix."""
        self.become(Content.of(prefix, self._prompt_format))

    def forget(self) -> None:
        """Be nothing any more. Why its prefix was computed again is still known."""
        self.content, self.residency = self._empty, Residency()

    def fall_back(self) -> None:
        """What stands after the prefix is lost, and nothing is resident."""
        self.content, self.residency = Content.of(self.content.prefix, self._prompt_format), Residency()

    # What jobs brought it to.

    def reach_prefix(self, new: Prefix, took: Advanced) -> PrefixStatus:
        """A job brought it to this prefix; whatever stood after the old one is gone."""
        old, before = self.content.prefix, self.tokens
        dropped = len(before) - common(before, new.tokens)
        self.content, self.asked = Content.of(new, self._prompt_format), frozenset()
        self.residency = Residency.of(len(new.tokens))
        miss = explain_miss(old, new, took.reused + took.restored, took.prefilled)
        self.miss = self._instability.heard(miss, old, new)
        if self.miss is not None and old.tokens:
            self._tell(Invalidated(self.miss))
        return PrefixStatus(
            reused_tokens=took.reused,
            restored_tokens=took.restored,
            prefilled_tokens=took.prefilled,
            dropped_tokens=dropped,
            prefix_tokens=len(new.tokens),
            resident_tokens=self.residency.resident,
            available_tokens=self._num_ctx - self.residency.resident,
            stable_byte_hash=new.manifest.stable_byte_hash,
            stable_token_hash=new.stable_token_hash,
            manifest_digest=new.manifest.digest,
            reuse_source=took.source,
        )

    def reach_suffix(
        self, suffix: Suffix, target: Sequence[int], words: frozenset[str], took: Advanced
    ) -> SuffixStatus:
        """A job brought it to all these tokens, of which the last ones are a suffix that asks by these words."""
        self.content, self.asked = self.content.with_tokens(target, suffix.roles), words
        self.residency = Residency.of(len(target))
        return SuffixStatus(
            suffix_tokens=len(suffix.tokens),
            reused_tokens=max(0, len(suffix.tokens) - took.prefilled),
            prefilled_tokens=took.prefilled,
            prefix_tokens=len(self.content.prefix.tokens),
            resident_tokens=self.residency.resident,
            available_tokens=self._num_ctx - self.residency.resident,
            manifest_digest=self.content.prefix.manifest.digest,
            fim_before_bytes=len(suffix.fim_before.encode()),
            fim_after_bytes=len(suffix.fim_after.encode()),
        )

    def end_answer(self, *, engine_died: bool) -> None:
        """An answer ended, whichever way: no more can be resident than it is now."""
        # What was heard of an engine may be read after its death.
        self.residency = Residency() if engine_died else self.residency.within(self.content.size)

    # What became of its branch.

    def hold(self, held: Sequence[int]) -> None:
        """A job ended early: the branch holds these tokens, which may be fewer than its own."""
        self.residency = Residency.of(common(self.tokens, held))

    def move(self, resident: int, in_memory: int) -> None:
        """KV of the branch moved without a job of its own."""
        self.residency = self.residency.moved(resident, in_memory)

    def move_late(self, resident: int, in_memory: int) -> None:
        """As `move`, while a turn has yet to hear what its job came to: it counts when the turn ends."""
        self._late = resident, in_memory

    def begin_job(self) -> None:
        """A job is sent, which says itself what stands at its end."""
        self._late = None

    def end_turn(self) -> None:
        """All that its jobs came to was heard."""
        if self._late is not None:
            self.move(*self._late)
        self._late = None
