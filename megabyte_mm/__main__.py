"""`python -m megabyte_mm` is `megabyte-mm`: Python asks for a file of this name."""

import sys

from megabyte_mm.cli.main import main

sys.exit(main())
