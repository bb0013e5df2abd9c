"""What a source of events has to say, before it is made into bursts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

MAX_PATHS: Final = 4_000
"""More are not named: reading all anew is cheaper than so many names."""


@dataclass(slots=True)
class Hints:
    """What may have changed since the last time."""

    paths: set[str] = field(default_factory=set[str])
    """Relative to the root."""
    lost: bool = False
    """Events were lost, or could not be named: anything may have changed."""
    gone: bool = False
    """The root was deleted, moved or unmounted."""

    def __bool__(self) -> bool:
        return bool(self.paths) or self.lost or self.gone

    def tell(self, path: str) -> None:
        """One more path, if there are not too many already."""
        if not self.lost:
            self.paths.add(path)
            if len(self.paths) > MAX_PATHS:
                self.tell_all()

    def tell_all(self) -> None:
        """Anything may have changed."""
        self.lost = True
        self.paths.clear()

    def merge(self, other: Hints) -> None:
        """Takes in what was said later."""
        if other.lost:
            self.tell_all()
        for path in other.paths:
            self.tell(path)
        self.gone = self.gone or other.gone
