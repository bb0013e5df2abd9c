"""The user's own file of defaults, `client.toml`: below flags and environment, above what is built in."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from sessiond.v1.errors import invalid


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """What `client.toml` may say. Empty means that it says nothing."""

    socket: str = ""
    model: str = ""
    key: str = ""


def settings_path() -> Path:
    """Where the file stands, whether or not it exists."""
    import platformdirs

    return platformdirs.user_config_path("sessiond") / "client.toml"


def read_settings(path: Path | None = None) -> ClientSettings:
    """The file's settings; all empty if there is no file. Raises InvalidInput that names the file and the key."""
    path = path or settings_path()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ClientSettings()
    except (OSError, UnicodeDecodeError) as error:
        raise invalid("client.toml", f"cannot read {path}: {error}") from error

    import tomllib  # only here: most people have no such file, and the command line should start fast

    try:
        told = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise invalid("client.toml", f"{path}: {error}") from error
    known = {field.name for field in fields(ClientSettings)}
    for name, value in told.items():
        if name not in known:
            raise invalid(name, f"{path} has an unknown key; known are {', '.join(sorted(known))}")
        if not isinstance(value, str):
            raise invalid(name, f"{path} should give a string here")
    return ClientSettings(**told)
