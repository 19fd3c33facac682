"""The command ``python -m benchmarks.shared_parts``."""

import sys

from benchmarks.synthetic_game.command import main

if __name__ == "__main__":
    sys.exit(main())
