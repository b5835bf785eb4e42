"""[verdict]: when something is called wrong, and how often it is said."""

from __future__ import annotations

from oslo_config import cfg

from vmhb_common.conf.types import prose, seconds_opt
from vmhb_worker.settings import VerdictSettings

GROUP = "verdict"
HELP = "When an instance is called faulty, and how often that is said"

_DEFAULT = VerdictSettings()
_DAY = 86400.0

OPTS = [
    seconds_opt(
        "panic_grace",
        _DEFAULT.panic_grace,
        0.0,
        3600.0,
        """
How long a guest whose kernel said that it panics has to answer again, before that is reported as guest_panicked.

Raise it where guests save a crash dump, and reboot by themselves after it. Only domains with a panic device can say
so; Nova adds none.

Seconds, 0 to 3600.
""",
    ),
    seconds_opt(
        "reboot_grace",
        _DEFAULT.reboot_grace,
        0.0,
        _DAY,
        """
How long an instance that answered before has to answer again after a boot or reboot, before that is reported as
not_established.

Counted from the first of several reboots: a guest that reboots over and over gets no more. Raise it where guests check
large file systems when they boot. (An instance's very first boot has its policy's grace instead.)

Seconds, 0 to 86400.
""",
    ),
    seconds_opt(
        "reminder_interval",
        _DEFAULT.reminder_interval,
        10.0,
        _DAY,
        """
How often an open fault is announced again, so that receivers that were not there can catch up.

The consumer takes a fault whose reminders stopped for three intervals for stale: keep it the same on all nodes.

Seconds, 10 to 86400.
""",
    ),
    seconds_opt(
        "probe_interval",
        _DEFAULT.probe_interval,
        1.0,
        3600.0,
        """
The least time between two balloon probes of one instance. A probe asks a silent guest's kernel, through its memory
balloon, whether it lives.

Each costs two calls to QEMU and nothing to the guest. Raise it where many instances are expected to be silent for
long.

Seconds, 1 to 3600.
""",
    ),
    seconds_opt(
        "gone_grace",
        _DEFAULT.gone_grace,
        0.0,
        7 * _DAY,
        """
How long libvirt may not know an instance that has an open fault, before the fault is closed as deleted.

Nova removes a domain and defines it anew when it reboots or rebuilds an instance: this must be longer than that takes.

Seconds, 0 to 604800.
""",
    ),
    cfg.BoolOpt(
        "observe_only",
        default=_DEFAULT.observe_only,
        help=prose(
            """
Judge and report everything, but ask for no recovery: notifications say `alarm`, with `observe` as the reason.

Set it while monitoring is being introduced, to see what would have been recovered.
"""
        ),
    ),
]
