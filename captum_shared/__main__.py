"""``python -m captum_shared``."""

import sys

from captum_shared.cli import main

if __name__ == "__main__":
    sys.exit(main())
