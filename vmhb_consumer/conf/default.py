"""[DEFAULT]: who this consumer is, and where it keeps its database, where that is SQLite."""

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
        default=socket.gethostname(),
        sample_default="<current hostname>",
        help=prose(
            """
The name of this control-plane node. What the consumer publishes itself has nova-vmhb-consumer:<host> as its publisher.

Set it where the machine's host name says nothing, as in a container. One word, at most 200 bytes, without white space,
'#', '*', '/' and ','.
"""
        ),
    ),
    cfg.StrOpt(
        "state_path",
        default="/var/lib/vmhb-consumer",
        help=prose(
            """
The folder of the database, nova-vmhb-consumer.sqlite, unless [database] connection names another one.

It must be writable, and survive a restart of the consumer (in a container: a volume), on a local disk. Where it is
lost, faults become known again by their reminders, within [verdict] reminder_interval of the workers; what was not yet
delivered to a reporter is lost.
"""
        ),
    ),
]
