"""[DEFAULT]: who this worker is, and where it keeps what must outlive it."""

from __future__ import annotations

import socket

from oslo_config import cfg

from vmhb_common.conf.types import Word, prose

GROUP = None
HELP = ""

OPTS = [
    cfg.Opt(
        "host",
        type=Word(),
        # The same as nova/conf/netconf.py, so that both are right, or wrong, together.
        default=socket.gethostname(),
        sample_default="<current hostname>",
        help=prose(
            """
The name of this compute node, exactly as nova-compute has it.

Faults name it, and the worker is reached under it: the message queue vmhb_worker.<host> is its own. Masakari looks it
up among the hypervisors. Set it when nova.conf sets [DEFAULT] host; without that both take the machine's host name.
One word, at most 200 bytes, without white space, '#', '*', '/' and ','.
"""
        ),
    ),
    cfg.StrOpt(
        "state_path",
        default="/var/lib/vmhb",
        help=prose(
            """
The folder where the worker keeps its database: open faults, notifications not yet delivered, which instances ever
answered.

It must be writable, survive a restart of the worker (in a container: a volume), and belong to this worker alone. On a
local disk: each fault is on disk before it is sent. Some megabytes are enough.
"""
        ),
    ),
    cfg.BoolOpt(
        "own_queue_only",
        default=False,
        help=prose(
            """
Make nothing on the message brokers but the queue vmhb_worker.<host>, and listen to no other.

Set it where this worker's user of the broker may do no more: one user for each node, with the rights that
etc/rabbitmq/vmhb-rights gives. The exchange vmhb and the queues of faults are then the consumers' to make: until one
has run, faults are kept, and RPC is not served. Without it the worker makes all that it uses, as it must where no
consumer runs.
"""
        ),
    ),
]
