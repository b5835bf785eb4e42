"""`tools/cloud`: gets the machine ready, then hands over to `tests.cloud` in an environment with a whole OpenStack."""

from __future__ import annotations

import os
import sys

from tests.cloud import requirements
from tools.lib import prepare
from tools.lib.prepare import ROOT


def main() -> int:
    """Exit code: that of `tests.cloud`, or 2 when the machine is not ready."""
    try:
        folder = prepare.prepare(prepare.CLOUD, prepare.Wants(requirements.missing, requirements.install))
    except prepare.NotReady as error:
        print(error, file=sys.stderr)
        return 2
    python = str(folder / "bin" / "python")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"}
    os.execve(python, [python, "-m", "tests.cloud", *sys.argv[1:]], environment)  # noqa: S606 -- its exit code and terminal are ours


if __name__ == "__main__":
    sys.exit(main())
