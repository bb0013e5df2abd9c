"""One client that is there to be killed: it sends what it reads from standard input, says so, and waits.

vanish_victim.py SOCKET METHOD
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # it runs isolated, to start at once

from raw_grpc import RawCall


def main() -> None:
    """Ask, and take the answer until the end."""
    with RawCall(*sys.argv[1:]) as call:
        call.send(sys.stdin.buffer.read())
        sys.stdout.write("asked\n")
        sys.stdout.flush()
        for _ in call.answers():
            pass
        call.wait_for_close()


if __name__ == "__main__":
    main()
