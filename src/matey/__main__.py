"""`python -m matey`, and what torchrun starts."""

import sys

from matey.cli import main

if __name__ == "__main__":
    sys.exit(main())
