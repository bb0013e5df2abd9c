"""Which definitions matter most: those to which many other files refer."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from sessiond.daemon.workspace.repo_map.definitions import Definition, Outline

Place = tuple[int, int]
"""The index of a file, and the index of a definition in its outline."""

_Way = tuple[str, str]
"""How a definition is referred to: its owner and its name; or "" and its name, which may stand behind its module's."""
_NONE: frozenset[str] = frozenset()
_PRIVATE = -1
"""The rank of what is not referred to, and not meant to be."""


def ranked(outlined: Sequence[tuple[str, Outline]]) -> list[Place]:
    """All definitions, the most useful first, and each behind the one in which it stands.

    A name counts by the files that refer to it and do not define it, shared among the files that define it. Half of
    all files call some `add` or `get` of something. So what stands in a class counts by the files that name the class
    as well, and what stands in no class by those that use it alone, or through the name of its file or folder.

    Only the power of two counts: else each new call somewhere would exchange a line of the map. For the same
    reason nothing is handed on from file to file, as in PageRank: there each reference moves the rank of all.
    Names that begin with an underscore and are not referred to come last: they are private, or Python's own.
    What is equal stands by the best of its file, then the outer before the inner, then by place.
    """
    ways = [_ways(path, outline) for path, outline in outlined]
    users = _users([outline for _, outline in outlined], ways)
    keys: list[tuple[int, int, int, int, int]] = []
    for file, (_, outline) in enumerate(outlined):
        own = [sum(users[way] for way in of_one) for of_one in ways[file]]
        ranks = _ranks(outline.definitions, own)
        of_file = max(ranks, default=0)
        for index, rank in enumerate(ranks):
            keys.append((-rank, -of_file, outline.definitions[index].depth, file, index))
    return [(file, index) for *_, file, index in sorted(keys)]


def _ways(path: str, outline: Outline) -> list[frozenset[_Way]]:
    """For each definition: how it is referred to."""
    file = PurePosixPath(path)
    modules = {"", *(f"{module}." for module in (file.stem, file.parent.name) if module)}
    return [
        frozenset({(one.owner, one.name)} if one.owner else {("", module + one.name) for module in modules})
        for one in outline.definitions
    ]


def _users(outlines: Sequence[Outline], ways: Sequence[Sequence[frozenset[_Way]]]) -> dict[_Way, int]:
    """For each way: the files that refer so to something in another one, for each file that has what is meant."""
    defined = [frozenset[_Way]().union(*of_file) for of_file in ways]
    defining = Counter(way for of_file in defined for way in of_file)
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for owner, name in defining:
        owners[name].add(owner)
    referring: Counter[_Way] = Counter()
    for outline, own in zip(outlines, defined, strict=True):
        used: set[_Way] = set()
        for reference in outline.references:
            name = reference.removeprefix(".")
            used.update((owner, name) for owner in owners.get(name, _NONE) & outline.references)
            if name == reference and ("", name) in defining:
                used.add(("", name))
        referring.update(used - own)
    return {way: referring[way] // files for way, files in defining.items()}


def _ranks(definitions: Sequence[Definition], users: Sequence[int]) -> list[int]:
    """The rank of each definition: its own, or that of something in it, since no method is shown without its class."""
    ranks: list[int] = []
    for definition, count in zip(definitions, users, strict=True):
        inside_private = definition.parent is not None and ranks[definition.parent] == _PRIVATE
        is_private = definition.name.startswith("_") or inside_private
        ranks.append(count.bit_length() or (_PRIVATE if is_private else 0))
    for index in reversed(range(len(ranks))):
        parent = definitions[index].parent
        if parent is not None:
            ranks[parent] = max(ranks[parent], ranks[index])
    return ranks
