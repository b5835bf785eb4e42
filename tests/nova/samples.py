"""The domains in tests/samples/domains, as our driver in Nova makes them: the functional tests boot guests from them.

Write them anew with `.venv-nova/bin/python -m tests.nova.samples`, when constraints-nova.txt names another Nova.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from nova.version import version_string

from tests.nova.cloud import OURS, ComputeNode, running, shim_in

FOLDER = Path(__file__).parent.parent / "samples" / "domains"
#: The Nova that they are of.
RELEASE = "34.0.0"

#: File -> the flavor's extra specs.
FLAVORS: dict[str, Mapping[str, str]] = {
    "nova-agent.xml": {
        "hw:heartbeat": "true",
        "hw:heartbeat_interval": "1",
        "hw:heartbeat_timeout": "1",
        "hw:heartbeat_threshold": "3",
    },
    "nova-application.xml": {"hw:heartbeat": "true", "hw:heartbeat_channel": "application"},
}


def make(node: ComputeNode, name: str) -> str:
    """One of them, as the driver makes it now. The image says nothing."""
    return node.xml(OURS, FLAVORS[name])


def main() -> None:
    """Write all of them."""
    assert version_string() == RELEASE, f"this is Nova {version_string()}: say so in RELEASE"
    FOLDER.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder, shim_in(Path(folder)), running(ComputeNode()) as node:
        for name in FLAVORS:
            (FOLDER / name).write_text(make(node, name))


if __name__ == "__main__":
    main()
