"""The folder that a replay works in: files are written there as editors, formatters and git write them."""

from __future__ import annotations

from pathlib import Path

from dulwich.objects import ObjectID
from dulwich.refs import Ref
from dulwich.repo import Repo

from replay_plan import Step

_BRANCH = Ref(b"refs/heads/replayed")
_SAVING = ".replay-save~"
"""The new content of a file before it takes the old one's place."""


class Scratch:
    """A new folder with these files. It holds only what was written through here, so no path in it is a link."""

    def __init__(self, root: Path, files: dict[str, bytes]) -> None:
        self.root = root
        root.mkdir(parents=True)
        for path, content in files.items():
            self._checked_out(root / path, content)

    def with_history(self, objects: Path, head: ObjectID) -> None:
        """Make it a repository whose history ends at `head`. The objects stay where they are: nothing is copied."""
        repo = Repo.init(self.root)
        try:
            repo.object_store.add_alternate_path(objects)
            repo.refs[_BRANCH] = head
            repo.refs.set_symbolic_ref(Ref(b"HEAD"), _BRANCH)
        finally:
            repo.close()

    def apply(self, step: Step) -> None:
        """Do what the step does, in its way: an editor replaces a file, a formatter writes into it, git makes it anew."""
        writes = {"burst": self._overwritten, "switch": self._checked_out, "back": self._checked_out}
        write = writes.get(step.kind, self._saved)
        for path, content in step.writes.items():
            if content is None:
                self._deleted(self.root / path)
            else:
                write(self.root / path, content)

    def read(self, path: str) -> bytes | None:
        """What a file holds; None if it is not there."""
        try:
            return (self.root / path).read_bytes()
        except OSError:
            return None

    def _saved(self, place: Path, content: bytes) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        new = place.with_name(_SAVING)
        new.write_bytes(content)
        new.replace(place)

    def _overwritten(self, place: Path, content: bytes) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)

    def _checked_out(self, place: Path, content: bytes) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.write_bytes(content)

    def _deleted(self, place: Path) -> None:
        place.unlink(missing_ok=True)
        for folder in place.parents:
            if folder == self.root or any(folder.iterdir()):
                return
            folder.rmdir()
