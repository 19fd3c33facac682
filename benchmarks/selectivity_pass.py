"""The command ``python -m benchmarks.selectivity_pass``."""

from benchmarks.speed.selectivity_pass import main

if __name__ == "__main__":
    main()
