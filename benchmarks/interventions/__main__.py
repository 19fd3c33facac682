"""The command ``python -m benchmarks.interventions``."""

import sys

from benchmarks.interventions.command import main

if __name__ == "__main__":
    sys.exit(main())
