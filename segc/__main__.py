"""`python -m segc`."""

import sys

from segc.cli import main

if __name__ == "__main__":
    sys.exit(main())
