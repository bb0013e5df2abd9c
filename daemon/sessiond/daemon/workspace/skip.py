"""Folders that are never entered, whatever the ignore files say."""

from __future__ import annotations

from sessiond.daemon.workspace.segment import LeftOut

VCS_FOLDER = b".git"
"""Passed over without a word, as git does."""

_WHY: dict[str, str] = {
    **dict.fromkeys((".hg", ".svn", ".jj", ".bzr", "CVS"), "a version control system's own folder"),
    **dict.fromkeys((".venv", ".direnv"), "a virtual environment"),
    **dict.fromkeys(("node_modules", "bower_components", ".yarn", ".pnpm-store"), "installed packages"),
    **dict.fromkeys(("__pycache__", "site-packages", ".eggs", ".tox", ".nox"), "made by Python's tools"),
    **dict.fromkeys(
        (".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".pytype"), "a tool's cache"
    ),
    **dict.fromkeys((".cache", ".parcel-cache", ".turbo", ".next", ".nuxt", ".svelte-kit"), "a tool's cache"),
    **dict.fromkeys((".gradle", ".terraform", ".ccache", ".clangd", ".ipynb_checkpoints"), "a tool's cache"),
}
_SECRET = frozenset({".ssh", ".gnupg", ".aws", ".kube", ".azure", ".password-store"})


def skipped_folder(path: str) -> LeftOut | None:
    """Why the folder at `path` is not for a prompt, by its name alone; None if it may be."""
    name = path.rpartition("/")[2]
    if name in _SECRET:
        return LeftOut(path, "secret", "a folder for credentials")
    why = _WHY.get(name)
    return LeftOut(path, "ignored", why) if why else None


def is_virtual_environment(path: bytes, names: set[bytes]) -> bool:
    """Whether the folder with these names in it is a virtual environment of Python, whatever it is called.

    `venv` is also a package of Python's own library, so the name alone says too little.
    """
    name = path.rpartition(b"/")[2]
    return b"pyvenv.cfg" in names or (name == b"venv" and b"__init__.py" not in names)
