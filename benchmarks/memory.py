"""The command ``python -m benchmarks.memory``."""

import sys

from benchmarks.speed.memory import main

if __name__ == "__main__":
    sys.exit(main())
