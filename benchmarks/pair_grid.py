"""The command ``python -m benchmarks.pair_grid``."""

import sys

from benchmarks.photo_game.command import main

if __name__ == "__main__":
    sys.exit(main())
