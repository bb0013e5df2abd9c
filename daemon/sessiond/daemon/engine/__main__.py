"""An engine process: `python -m sessiond.daemon.engine FD`, started by the daemon over a socket pair."""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys

from sessiond.daemon.engine.worker import Worker


def main() -> None:
    """Serve the socket that the daemon passed."""
    # Ctrl-C reaches every process of a terminal's group; the daemon decides when an engine ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()  # the last words of a native fault
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        Worker(channel).serve()
    sys.stderr.flush()
    os._exit(0)  # native threads and a decode in progress need no farewell


main()
