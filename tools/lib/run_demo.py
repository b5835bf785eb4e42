"""`tools/demo`: gets the machine ready, then hands over to `tools.lib.demo` in the project's own environment."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from tests.lab import requirements
from tools.lib import prepare
from tools.lib.prepare import ROOT


def main() -> int:
    """Exit code: the demo's own, or 2 when the machine is not ready."""
    parser = argparse.ArgumentParser(prog="tools/demo", description="See what nova-vmhb does, in under two minutes.")
    parser.add_argument(
        "--simulate", action="store_true", help="without root, libvirt, QEMU and RabbitMQ: all of it simulated"
    )
    asked = parser.parse_args()
    try:
        if asked.simulate:
            folder = prepare.prepare(prepare.LIGHT)
        else:
            folder = prepare.prepare(prepare.FULL, prepare.Wants(requirements.missing, requirements.install))
    except prepare.NotReady as error:
        print(error, file=sys.stderr)
        return 2
    python = str(folder / "bin" / "python")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"}
    stage = "simulated" if asked.simulate else "real"
    # Not exec: this process holds the environment, so that nobody makes it anew meanwhile.
    demo = subprocess.Popen([python, "-m", "tools.lib.demo", stage], env=environment)
    while True:
        try:
            return demo.wait()
        except KeyboardInterrupt:
            continue  # the demo got it as well, and brings everything down


if __name__ == "__main__":
    sys.exit(main())
