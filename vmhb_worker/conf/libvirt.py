"""[libvirt]: how libvirt is reached. The name is Nova's."""

from __future__ import annotations

from oslo_config import cfg

from vmhb_common.conf.types import prose

GROUP = "libvirt"
HELP = "The libvirt whose domains are watched"
DEFAULT_URI = "qemu:///system"

OPTS = [
    cfg.StrOpt(
        "connection_uri",
        default=DEFAULT_URI,
        help=prose(
            """
The libvirt to watch: the URI that nova-compute uses.

Change it when nova.conf changes [libvirt] connection_uri. The connection must be a read-write one, since guest agents
are asked through it. Empty means the default, as it does in Nova.
"""
        ),
    )
]
