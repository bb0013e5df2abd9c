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
    # Ctrl-C reaches every process of a terminal's group, and the stop of a service every process of it. The daemon decides
    # when an engine ends: answers may end first, and what was computed goes to the disk. It hangs up, or is gone.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    faulthandler.enable()  # the last words of a native fault
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        Worker(channel).serve()
    sys.stderr.flush()
    os._exit(0)  # native threads and a decode in progress need no farewell


main()
