"""`python -m megabyte_mm` is `megabyte-mm`."""

import sys

from megabyte_mm.cli import main

sys.exit(main())
