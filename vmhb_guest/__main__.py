"""`python -m vmhb_guest`."""

import sys

from vmhb_guest.cmd import main

if __name__ == "__main__":
    sys.exit(main())
