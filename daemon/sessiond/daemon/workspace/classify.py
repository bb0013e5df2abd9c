"""Why a file is not for a prompt: its name first, which costs nothing, then its content."""

from __future__ import annotations

import re

from sessiond.daemon.workspace.searched import SEARCHED
from sessiond.daemon.workspace.secret_names import secret_path
from sessiond.daemon.workspace.secrets import secret_content
from sessiond.daemon.workspace.segment import LeftOut

MAX_BYTES = 256 * 1024
"""A larger file is data, or at least no good use of a window."""
MAX_LINE = 5_000
"""Characters. Nobody writes longer lines by hand."""

_LONG_WORD = re.compile(r"[A-Za-z0-9_-]{16}")
"""No secret that has a form of its own goes without."""

_LOCK_FILES = frozenset(
    """
    package-lock.json npm-shrinkwrap.json yarn.lock pnpm-lock.yaml bun.lock bun.lockb deno.lock
    poetry.lock uv.lock pdm.lock pipfile.lock pixi.lock conda-lock.yml conan.lock
    cargo.lock go.sum go.work.sum composer.lock gemfile.lock mix.lock rebar.lock pubspec.lock flake.lock
    podfile.lock package.resolved cartfile.resolved gradle.lockfile packages.lock.json chart.lock buf.lock
    .terraform.lock.hcl module.bazel.lock stack.yaml.lock cabal.project.freeze dub.selections.json
    """.split()
)
_GENERATED_NAME = re.compile(
    r".*(?:[.-]min\.(?:js|cjs|mjs|css)|\.map|\.pb\.go|_pb2(?:_grpc)?\.pyi?)", re.DOTALL
)
_GENERATED_MARK = re.compile(r"@generated\b|[Gg]enerated [^\n]{0,200}DO NOT EDIT")
_MARK_WITHIN = 2_000
"""Characters from the start in which a mark counts; further down it is talked about, not set."""
_MARK_LINES = 10

_IMAGES = "png jpg jpeg gif bmp ico icns webp avif heic tif tiff psd ai eps svg xcf"
_SOUND = "mp3 mp4 m4a m4v wav flac ogg oga ogv opus aac mov avi mkv webm wmv mid"
_ARCHIVES = "zip gz tgz bz2 tbz xz txz zst 7z rar tar jar war ear whl egg deb rpm dmg iso apk ipa cab lz4 br"
_DOCUMENTS = "pdf doc docx xls xlsx ppt pptx odt ods odp epub ttf otf woff woff2 eot"
_PROGRAMS = "o a so dylib dll exe lib obj class pyc pyo wasm bin node pdb"
_DATA = "gguf ggml safetensors onnx pt pth ckpt h5 npy npz parquet arrow sqlite sqlite3 db mdb pkl pickle"
_SUFFIXES: dict[str, str] = {
    suffix: what
    for what, suffixes in (
        ("an image", _IMAGES),
        ("sound or film", _SOUND),
        ("an archive", _ARCHIVES),
        ("a document or font", _DOCUMENTS),
        ("a compiled program", _PROGRAMS),
        ("a data file", _DATA),
    )
    for suffix in suffixes.split()
}


def by_name(path: str) -> LeftOut | None:
    """Why a file stays out, by its path alone; None if its content must be seen."""
    name = path.rpartition("/")[2]
    lower = name.lower()
    if secret_path(path):
        return LeftOut(path, "secret", "the name of a file that holds secrets")
    if _LONG_WORD.search(path) and secret_content(path) is not None:
        # The path itself stands in the prompt, in front of the content.
        return LeftOut(path, "secret", "its path is one")
    if lower in _LOCK_FILES:
        return LeftOut(path, "lock_file", "a lock file")
    if _GENERATED_NAME.fullmatch(lower):
        return LeftOut(path, "generated", "the name of a generated file")
    _, dot, suffix = lower.rpartition(".")
    if dot and suffix in _SUFFIXES:
        return LeftOut(path, "media", _SUFFIXES[suffix])
    return None


def by_content(path: str, content: bytes) -> str | LeftOut:
    """The file's text; or why it stays out. The path's name was seen before."""
    if len(content) > MAX_BYTES:
        return LeftOut(path, "too_large", f"more than {MAX_BYTES:,} bytes")
    if b"\0" in content:
        return LeftOut(path, "binary", "it has a zero byte")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        return LeftOut(path, "binary", f"not UTF-8 at byte {error.start:,}")
    what = SEARCHED.found_in(content, lambda: secret_content(text))
    if what is not None:
        return LeftOut(path, "secret", f"{what} stands in it")
    return _generated(path, text) or text


def _generated(path: str, text: str) -> LeftOut | None:
    head = "\n".join(text[:_MARK_WITHIN].split("\n", _MARK_LINES)[:_MARK_LINES])
    if _GENERATED_MARK.search(head):
        return LeftOut(path, "generated", "its first lines say so")
    if len(text) > MAX_LINE and max(map(len, text.split("\n"))) > MAX_LINE:
        return LeftOut(path, "generated", f"a line of more than {MAX_LINE:,} characters")
    return None
