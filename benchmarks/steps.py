"""The command ``python -m benchmarks.steps``."""

import sys

from benchmarks.quadrature.command import main

if __name__ == "__main__":
    sys.exit(main())
