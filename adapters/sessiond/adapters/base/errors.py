"""What can go wrong in a backend. Each outcome that a caller treats differently is its own class."""

from __future__ import annotations


class BackendError(Exception):
    """The backend refused or failed, and says why. What it held before is as it was."""


class ModelLoadError(BackendError):
    """The model file is missing, unreadable, truncated, or not a model."""


class SettingsError(BackendError):
    """A setting that this backend or model cannot run with. `setting` is its name in the contract's Config."""

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(message)
        self.setting = setting


class NoRoom(BackendError):
    """The cells are full: nothing was computed."""


class Aborted(BackendError):
    """The abort flag was seen. Micro-batches that were finished remain: ask `end` how far they reach."""


class Unsupported(BackendError):
    """The backend cannot do this. `feature` is its name in the contract's Capabilities or DecodeConfig."""

    def __init__(self, feature: str) -> None:
        super().__init__(f"{feature} is not supported")
        self.feature = feature
