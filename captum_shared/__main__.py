"""``python -m captum_shared``."""

import sys

from captum_shared.cli import main

sys.exit(main())
