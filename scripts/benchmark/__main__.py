"""`python -m benchmark`."""

import sys

from benchmark.command import main

if __name__ == "__main__":  # a process that is spawned imports this module, too
    sys.exit(main())
