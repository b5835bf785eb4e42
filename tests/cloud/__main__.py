"""`tools/cloud up|status|down|shell|demo|compare`, in the cloud's own environment."""

from __future__ import annotations

import argparse
import os
import sys
import time

from tests.cloud import holder
from tests.cloud.compare import compare, table
from tests.cloud.deeds import DEEDS
from tests.cloud.demo import demo, visit
from tests.cloud.site import BIN, FOLDER
from tests.lab.processes import LabError

#: What to try first, but for the server's name.
CREATE = "openstack server create --flavor monitored --image guest --no-network --wait"


def up() -> None:
    """Bring it up, and leave it."""
    holder.start()
    print(f"state and logs: {FOLDER}\nto use it: tools/cloud shell\nto end it: tools/cloud down")


def status() -> None:
    """What runs."""
    rows = holder.Client().ask("status")
    for row in rows:
        print(f"{row['name']:22} {'runs' if row['runs'] else 'ENDED':6} {row['pid']:8} {row['pss'] / 2**20:7.0f} MiB")
    print(f"{'':22} {'':6} {'':8} {sum(row['pss'] for row in rows) / 2**20:7.0f} MiB")
    print(f"{holder.REST}: MariaDB, RabbitMQ, libvirtd, guests, and the processes that keep them\n")
    site = holder.Client().site
    for name in site.ports:
        print(f"{name:22} {site.url(name)}")


def down() -> None:
    """End it."""
    began = time.monotonic()
    holder.Client().end()
    print(f"the cloud is down ({time.monotonic() - began:.1f} s); its logs stay in {FOLDER}/log until the next")


def shell() -> None:
    """A shell in which `openstack` speaks with it."""
    site = holder.Client().site
    path = f"{BIN}:{os.environ['PATH']}"
    os.environ.update(site.admin, PATH=path, PS1="(cloud) \\w # ")
    commands = ["-i"] if sys.stdin.isatty() else []  # or else it reads them from wherever they come
    print(f"{CREATE} NAME", flush=True)
    os.execvp("bash", ["bash", "--norc", *commands])  # noqa: S606 -- it is what was asked for


def side_by_side() -> None:
    """A table of us and the peer."""
    with visit() as (stage, tell):
        print(f"\n{table(compare(stage, DEEDS, tell))}\n")


COMMANDS = {"up": up, "status": status, "down": down, "shell": shell, "demo": demo, "compare": side_by_side}


def main() -> int:
    """Exit code: 0 done, 1 not."""
    parser = argparse.ArgumentParser(prog="tools/cloud", description="A whole OpenStack on this machine.")
    parser.add_argument(
        "command",
        choices=COMMANDS,
        help="up: bring it up, and leave it; status: what runs; down: end it; shell: where `openstack` speaks with it; "
        "demo: a guest dies and is recovered; compare: us and masakari-introspectiveinstancemonitor, some 20 minutes",
    )
    try:
        COMMANDS[parser.parse_args().command]()
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
