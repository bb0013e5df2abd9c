"""One of each error of the contract."""

from __future__ import annotations

from sessiond.v1 import errors

EVERY_ERROR: list[errors.SessiondError] = [
    errors.ContextOverflow("prefix", 10, 5000, 4096),
    errors.ContextOverflow("suffix", 10, 5000, 4096, [2, 7]),
    errors.ManifestMismatch([errors.FieldMismatch("model_digest", "aa", "bb")]),
    errors.UnsupportedFeature("grammar", "scripted"),
    errors.SessionNotFound("sessions/1"),
    errors.FunctionNotFound("classify"),
    errors.SessionClosed("sessions/1"),
    errors.SessionBusy("sessions/1"),
    errors.SessionFatal("signal 11"),
    errors.SessionUnavailable("the model is loading"),
    errors.InvalidInput(
        [errors.FieldViolation("prefix.text", "has NUL"), errors.FieldViolation("name", "is empty")]
    ),
    errors.PermissionDenied("outside the workspace: Ünïcode, and 100%"),
]


def told(error: BaseException) -> object:
    """All that an error says, for comparing."""
    return type(error), vars(error), str(error)
