"""`python -m weakrest_export`: the same as the `weakrest-export` script."""

import sys

from weakrest_export.cli import main

sys.exit(main())
