"""The bundle's file: a tar.gz that only its owner reads, and that says nothing of who made it."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

from sessiond.v1.errors import invalid

FOLDER = "sessiond-support"
"""What all files stand in."""


def write_bundle(path: Path, files: Mapping[str, str], time_s: int) -> int:
    """Write texts by name, dated `time_s` (seconds since 1970), to a new file; its size in bytes.

    Raises InvalidInput where something stands there already or it cannot be written: then nothing is left there.
    """
    data = _packed(files, time_s)
    try:
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise invalid("output", f"exists already: {path}") from None
    except OSError as error:
        raise invalid("output", f"cannot be written: {path}: {error.strerror}") from error
    try:
        with open(opened, "wb") as file:  # noqa: PTH123 - it is a descriptor, not a path
            file.write(data)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise invalid("output", f"cannot be written: {path}: {error.strerror}") from error
    return len(data)


def _packed(files: Mapping[str, str], time_s: int) -> bytes:
    packed = io.BytesIO()
    # Not tarfile's own gzip, whose header would name the file.
    with (
        gzip.GzipFile("", "wb", fileobj=packed, mtime=time_s) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, text in files.items():
            data = text.encode()
            entry = tarfile.TarInfo(f"{FOLDER}/{name}")
            entry.size, entry.mode, entry.mtime = len(data), 0o600, time_s
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()
