"""The command ``python -m benchmarks.speed_bulk``."""

from benchmarks.speed.bulk import main

if __name__ == "__main__":
    main()
