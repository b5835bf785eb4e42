"""What our options have by default is what Nova's own have: an operator sets both, or neither."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from nova.conf import netconf

from vmhb_worker.conf import default

#: Two machines: a short name, and one as cloud-init likes to set it.
NAMES = ("compute-7", "compute-7.rack-2.example.org")

#: What Nova and we call the machine when it is called `sys.argv[1]`.
ASK = """
import socket, sys
socket.gethostname = lambda: sys.argv[1]
socket.getfqdn = lambda name="": "another.example.org"
from nova import conf as nova
from oslo_config import cfg
from vmhb_worker import conf
nova.CONF([], project="nova", default_config_files=[])
ours = cfg.ConfigOpts()
conf.register(ours)
ours([], project="vmhb-worker", default_config_files=[])
print(nova.CONF.host, ours.host)
"""


def test_host_is_novas_here() -> None:
    """On this machine: the options' own defaults, side by side."""
    nova = next(option.default for option in netconf.netconf_opts if option.name == "host")
    ours = next(option.default for option in default.OPTS if option.name == "host")
    assert ours == nova == socket.gethostname()


@pytest.mark.parametrize("name", NAMES)
def test_host_is_novas_wherever(name: str) -> None:
    """Not the full name where Nova takes the short one, nor the other way round: read from both configurations."""
    root = Path(__file__).parent.parent.parent
    asked = subprocess.run(
        [sys.executable, "-c", ASK, name],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.stdout.split() == [name, name], asked.stderr
