"""`python -m megabyte_mm` is `megabyte-mm`."""

import sys

from megabyte_mm.cli.main import main

sys.exit(main())
