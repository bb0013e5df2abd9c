"""`.sessiond.toml`: what a workspace's people ask of its assembly.

```toml
include = ["src/", "docs/*.md"]   # if given, only what matches goes in; patterns as in .gitignore
exclude = ["src/vendor/"]         # stays out
pinned = ["docs/glossary.md"]     # goes in first, and stands in front
instructions = "docs/MODELS.md"   # instead of AGENTS.md
budget = 6000                     # tokens at most; it can only lower what is asked for
order = "path"                    # instead of "volatility": what is edited often stands last

[map]
enabled = true                    # an outline of the files, in front of them
tokens = 500                      # at most; never more than an eighth of the budget
```

It is a file of the workspace, and so as little to be trusted as any other: it narrows what goes in and orders it,
and can bring in nothing that stays out without it. With one fault in it none of it is obeyed: half a configuration
would be a surprise.
"""

from __future__ import annotations

import tomllib
from typing import Annotated, Literal

import msgspec

from sessiond.daemon.workspace.beneath import read_file
from sessiond.daemon.workspace.paths import path_fault
from sessiond.daemon.workspace.secrets import secret_content
from sessiond.daemon.workspace.segment import LeftOut

CONFIG_FILE = ".sessiond.toml"
"""At the root. It is always read from the disk: an unsaved buffer of it is not obeyed."""
INSTRUCTIONS = "AGENTS.md"
"""At the root: what the workspace's people tell every model."""

MAX_BYTES = 16 * 1024
MAX_DOTS = 128
"""In one line. `tomllib` takes time quadratic in the parts of a dotted key: 16 KiB of `a.a.a…` took 2.8 s."""
MAX_PATTERNS = 256
"""Of each list. Every name of the workspace is compared with each."""
_MAX_PINNED = 1_000
_MAP_SHARE = 8
"""The map may take one token in so many."""
_MOST_TOLD = 200
"""Characters of a fault that are shown."""

_Tokens = Annotated[int, msgspec.Meta(gt=0)]
_Patterns = Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_PATTERNS)]


class MapConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[map]`."""

    enabled: bool = False
    tokens: _Tokens | None = None


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. What is absent has the value that stands here."""

    include: _Patterns = ()
    exclude: _Patterns = ()
    pinned: Annotated[tuple[str, ...], msgspec.Meta(max_length=_MAX_PINNED)] = ()
    instructions: str = INSTRUCTIONS
    budget: _Tokens | None = None
    order: Literal["volatility", "path"] = "volatility"
    map: MapConfig = MapConfig()

    def __post_init__(self) -> None:
        for key, patterns in (("include", self.include), ("exclude", self.exclude)):
            if not all(pattern.isprintable() for pattern in patterns):
                raise ValueError(f"A pattern with a control character - at `$.{key}`")
        for key, paths in (("pinned", self.pinned), ("instructions", (self.instructions,))):
            fault = next((fault for path in paths if (fault := path_fault(path))), None)
            if fault:
                raise ValueError(f"A path {fault} - at `$.{key}`")

    def room(self, max_tokens: int) -> int:
        """Tokens that the assembly may take, if `max_tokens` are asked for."""
        return max_tokens if self.budget is None else min(max_tokens, self.budget)

    def map_room(self, room: int) -> int:
        """Tokens of this room that are kept for the map."""
        if not self.map.enabled:
            return 0
        most = max(0, room) // _MAP_SHARE
        return most if self.map.tokens is None else min(most, self.map.tokens)


def read_config(root_fd: int) -> tuple[Config, LeftOut | None]:
    """The workspace's configuration; the default and why, if its file cannot be obeyed."""
    try:
        content = read_file(root_fd, CONFIG_FILE.encode(), MAX_BYTES)
    except FileNotFoundError:
        return Config(), None
    except OSError as error:
        return Config(), _refused(error.strerror or "it could not be read")
    try:
        return parse_config(content), None
    except (ValueError, RecursionError) as error:
        return Config(), _refused(str(error))


def parse_config(content: bytes) -> Config:
    """Raises ValueError or RecursionError; the message names the key and may quote what stands there."""
    text = content.decode("utf-8")
    if any(line.count(".") > MAX_DOTS for line in text.split("\n")):
        raise ValueError(f"a line has more than {MAX_DOTS} dots")
    return msgspec.convert(tomllib.loads(text), Config)


def _refused(fault: str) -> LeftOut:
    if secret_content(fault) is not None:
        fault = "a secret stands in it"
    told = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in fault)
    told = told if len(told) <= _MOST_TOLD else told[:_MOST_TOLD] + "…"
    return LeftOut(CONFIG_FILE, "config", f"not obeyed: {told}")
