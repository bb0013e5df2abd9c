"""The daemon's settings: a flag wins over a `SESSIOND_*` variable, that over the TOML file, that over the default."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, ClassVar, Literal

import platformdirs
from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from sessiond.daemon.engine.engine import Tiers
from sessiond.daemon.machine import total_memory

TIER_SHARE = 0.1
"""Of the machine's memory, what KV without cells may take for each engine where no setting says otherwise."""

CONFIG_VARIABLE = "SESSIOND_CONFIG"


def default_socket() -> Path:
    """`sessiond.sock` in the user's runtime folder."""
    with warnings.catch_warnings():
        # Without XDG_RUNTIME_DIR platformdirs warns that it falls back to a folder below the temporary one.
        warnings.simplefilter("ignore")
        return platformdirs.user_runtime_path("sessiond") / "sessiond.sock"


def default_config_file() -> Path:
    """`sessiond.toml` in the user's configuration folder, unless a variable names another."""
    named = os.environ.get(CONFIG_VARIABLE)
    return Path(named) if named else platformdirs.user_config_path("sessiond") / "sessiond.toml"


class Settings(BaseSettings):
    """What `sessiond serve` runs with."""

    model_config = SettingsConfigDict(env_prefix="SESSIOND_", extra="ignore", protected_namespaces=())
    config_file: ClassVar[Path | None] = None

    socket: Path = Field(default_factory=default_socket)
    tcp: str = ""
    """HOST:PORT on loopback, beside the socket; empty is off."""
    tcp_beyond_loopback: bool = False
    """Whether `tcp` may be an address that other machines reach; it needs TLS then."""
    tls_cert: Path | None = None
    """The certificate of the TCP port (PEM); with its key it switches TLS on."""
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    """The authority (PEM) that must have signed the certificate of a client; without it clients need none."""
    token: str = ""
    """What clients must send, if anything."""
    metrics: str = ""
    """HOST:PORT on loopback where Prometheus finds metrics, behind the token; empty is off."""
    model: str = ""
    """The default model; empty is the embedded one."""
    model_dirs: list[Path] = Field(default_factory=list[Path])
    """Folders with models, beside the usual places."""
    state_dir: Path = Field(default_factory=lambda: platformdirs.user_state_path("sessiond"))
    num_ctx: int = Field(default=0, ge=0, le=1 << 24)
    """The window of sessions that leave it open, in tokens; 0 leaves it to the backend."""
    kv_memory_mb: int = Field(default=0, ge=0, le=1 << 24)
    """What the cells of all workspaces may take together, in MiB; 0 is what the machine has free, less a reserve."""
    memory_tier_mb: int | None = Field(default=None, ge=0, le=1 << 24)
    """What each engine may keep of KV that left its cells, in MiB; left open, it is a tenth of the machine's memory."""
    disk_tier_mb: int = Field(default=8192, ge=0, le=1 << 24)
    """What KV may take on the disk for all models together, in MiB, so that it outlives the daemon; 0 keeps none."""
    measure: bool = True
    """Whether to measure once, when a model is first loaded on this machine, how it runs fastest."""
    keep_hot: bool = True
    """Whether prefixes of workspaces are brought up to date in the background when files change."""
    keep_hot_on_battery: bool = True
    """Whether that is done while the machine runs on its battery."""
    keep_hot_most_load: float = Field(default=0.0, ge=0.0, le=1024.0)
    """The load average of a minute, for each CPU, above which it waits; 0 is no limit."""
    max_sessions: int = Field(default=16, ge=1, le=4096)
    max_message_bytes: int = Field(default=128 << 20, ge=1 << 16, le=1 << 30)
    max_calls: int = Field(default=512, ge=8, le=1 << 16)
    """Calls that may run at once, watchers among them."""
    max_waiting_turns: int = Field(default=64, ge=1, le=1 << 16)
    """Turns that may wait behind another one of their session, over all sessions."""
    max_waiting_turns_each: int = Field(default=8, ge=1, le=1 << 16)
    """The same for one session."""
    stall_timeout_s: float = Field(default=60.0, gt=0.0, le=3600.0)
    """Seconds that a client may take to send its request, and to take one part of an answer."""
    stop_grace_s: float = Field(default=10.0, ge=0.0, le=3600.0)
    """How long running turns may take to end after SIGTERM."""
    log_format: Literal["auto", "console", "json"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def memory_tier_bytes(self) -> int:
        """`memory_tier_mb`, in bytes."""
        if self.memory_tier_mb is not None:
            return self.memory_tier_mb << 20
        return int(total_memory() * TIER_SHARE)

    def tiers(self) -> Tiers:
        """Where each engine may keep KV that has no cells."""
        folder = self.state_dir / "kv" if self.disk_tier_mb else None
        return Tiers(self.memory_tier_bytes(), self.disk_tier_mb << 20, folder)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the hook's own signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, variables, file: in this order."""
        file = TomlConfigSettingsSource(settings_cls, toml_file=cls.config_file or default_config_file())
        return init_settings, env_settings, file


def load_settings(flags: dict[str, Any], config_file: Path | None) -> Settings:
    """The settings. Raises pydantic.ValidationError, tomllib.TOMLDecodeError, FileNotFoundError."""
    if config_file is not None and not config_file.is_file():
        raise FileNotFoundError(f"no such config file: {config_file}")

    class Here(Settings):
        """Bound to one file: pydantic-settings asks the class, not the call, for its sources."""

    Here.config_file = config_file
    return Here(**flags)
