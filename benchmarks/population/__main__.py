"""The command ``python -m benchmarks.population``."""

import sys

from benchmarks.population.command import main

if __name__ == "__main__":
    sys.exit(main())
