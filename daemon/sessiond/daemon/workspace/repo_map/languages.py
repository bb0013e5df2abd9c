"""The languages that can be mapped: a grammar each, and a query over its trees, loaded when first needed.

The captures of the queries in `queries/`:

- `@scope`: a definition whose inner definitions are shown too, and used through its name, such as a class.
  `@space`: the same, but they are used without its name. `@leaf`: one whose insides are not shown.
- `@constant`: a leaf, if its name begins with a capital letter.
- `@name`: what the definition is called. `@body`: where its signature ends, if that is before its own end.
- `@noise`: what is left out of signatures.
- `@owner`: the name through which it is used, where it does not stand in that.
- `@reference`: a name that is used. `@capitalized`: the same, if it begins with a capital letter.
- `@member`: a name that is used through something, which is `@object`.
- `prefix`, a setting: stands before the signature.

If several patterns match one definition, the first one counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.resources import files

import tree_sitter


@dataclass(frozen=True, slots=True)
class Language:
    """What parses a text, and what finds the definitions and references in its tree."""

    grammar: tree_sitter.Language
    query: tree_sitter.Query
    prefixes: tuple[str, ...]
    """For each pattern of the query: what stands before the signature."""


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a language comes from."""

    package: str
    function: str
    queries: tuple[str, ...]
    """They are joined, the more special one first: a grammar that extends another one shares its query."""


_SOURCES = {
    "python": _Source("tree_sitter_python", "language", ("python",)),
    "javascript": _Source("tree_sitter_javascript", "language", ("javascript_only", "javascript", "jsx")),
    "typescript": _Source("tree_sitter_typescript", "language_typescript", ("typescript", "javascript")),
    "tsx": _Source("tree_sitter_typescript", "language_tsx", ("typescript", "javascript", "jsx")),
    "go": _Source("tree_sitter_go", "language", ("go",)),
    "rust": _Source("tree_sitter_rust", "language", ("rust",)),
    "c": _Source("tree_sitter_c", "language", ("c_only", "c")),
    "cpp": _Source("tree_sitter_cpp", "language", ("cpp", "c")),
    "java": _Source("tree_sitter_java", "language", ("java",)),
}
LANGUAGES = tuple(_SOURCES)

# A header may be of either language, and nearly all of C is C++.
_SUFFIXES = {
    suffix: language
    for language, suffixes in (
        ("python", "py pyi"),
        ("javascript", "js mjs cjs jsx"),
        ("typescript", "ts mts cts"),
        ("tsx", "tsx"),
        ("go", "go"),
        ("rust", "rs"),
        ("c", "c"),
        ("cpp", "h hh hpp hxx cc cpp cxx ipp"),
        ("java", "java"),
    )
    for suffix in suffixes.split()
}


def language_of(path: str) -> str | None:
    """One of LANGUAGES, by the suffix of the path; None if there is none for it."""
    name = path.rpartition("/")[2]
    _, dot, suffix = name.rpartition(".")
    return _SUFFIXES.get(suffix.lower()) if dot else None


@cache
def load(language: str) -> Language:
    """The language of that name, which is one of LANGUAGES."""
    source = _SOURCES[language]
    capsule: Callable[[], object] = getattr(import_module(source.package), source.function)
    grammar = tree_sitter.Language(capsule())
    folder = files("sessiond.daemon.workspace.repo_map") / "queries"
    text = "".join((folder / f"{name}.scm").read_text("utf-8") for name in source.queries)
    query = tree_sitter.Query(grammar, text)
    settings = map(query.pattern_settings, range(query.pattern_count))
    return Language(grammar, query, tuple(setting.get("prefix") or "" for setting in settings))
