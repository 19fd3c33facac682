"""The command ``python -m benchmarks.driver_pairs``."""

import sys

from benchmarks.driver_pairs.command import main

if __name__ == "__main__":
    sys.exit(main())
