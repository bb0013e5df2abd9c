"""KV that goes to a snapshot, and KV that comes from one: a piece at a time, each a job of its own, so that who works
beside it waits for no more than a piece.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sessiond.adapters.base import BackendError, Capabilities
from sessiond.daemon.engine.reach import Reach
from sessiond.daemon.engine.tree import TokenTree
from sessiond.daemon.engine.work import Adopt, Taken, Work


def can_be_carried(able: Capabilities) -> bool:
    """Whether KV can leave a backend and come back: where no sequence can be cut, a state is no run of tokens' own."""
    return able.snapshot and able.truncate


def saved(reach: Reach, branch: str, tokens: Sequence[int], start: int, end: int) -> Work[bytes]:
    """Bring the branch to `tokens`; the KV of those from `start` to `end`. Raises NoRoom, BackendError."""
    if not 0 <= start < end <= len(tokens):
        raise BackendError(f"{start} to {end} is no piece of {len(tokens)} tokens")
    yield from reach.to(branch, list(tokens))
    tree = reach.tree
    sequence = tree.tips[branch].cover()
    assert sequence is not None
    return tree.cells.context.save(sequence, start, end)


def loaded(reach: Reach, branch: str, tokens: Sequence[int], start: int, payload: bytes) -> Work[Taken]:
    """Bring the branch to `tokens`, the KV of those from `start` on being the payload. Raises NoRoom.

    Where tokens from `start` on stand already, they are used, and what they lack of the piece is computed.
    """
    if not 0 <= start < len(tokens):
        raise BackendError(f"no piece of {len(tokens)} tokens begins at {start}")
    target, prefilled = list(tokens), 0
    while True:
        prefilled += (yield from reach.to(branch, target[:start])).prefilled
        if reach.tree.walk(branch, target) > start:
            break
        wish = Adopt(branch, start, target[start:], payload)
        yield wish
        if wish.refused:
            return Taken(prefilled, wish.refused)
        if wish.over:
            break
    prefilled += (yield from reach.to(branch, target)).prefilled
    return Taken(min(prefilled, len(target)))


def adopt(tree: TokenTree, wish: Adopt, keep: Collection[str]) -> None:
    """Fulfil a wish of `loaded`, unless it is out of date. Raises NoRoom, which leaves it to be tried again."""
    if not tree.stands(wish.branch, wish.start):
        return
    if not tree.receive(wish.branch, wish.tokens, wish.payload, keep):
        wish.refused = "the backend refused it"
    wish.over = True
