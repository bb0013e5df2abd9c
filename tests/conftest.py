"""For all tests: signals are heard, however the run was started."""

from __future__ import annotations

import signal

# A shell that starts something in the background has it ignore SIGINT, and so would every program that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
