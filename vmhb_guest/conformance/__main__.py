"""`python -m vmhb_guest.conformance`."""

import sys

from vmhb_guest.conformance.cmd import main

if __name__ == "__main__":
    sys.exit(main())
