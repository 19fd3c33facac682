"""The command ``python -m benchmarks.growth``."""

import sys

from benchmarks.speed.growth import main

if __name__ == "__main__":
    sys.exit(main())
