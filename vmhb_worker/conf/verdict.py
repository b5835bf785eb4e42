"""[verdict]: when something is called wrong, and how often it is said."""

from __future__ import annotations

from oslo_config import cfg, types

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
How long a guest whose kernel said that it panics has to answer again, or to reboot by itself, before its recovery is
asked for. That it panicked is told at once, as an alarm that says `hold`; an answer ends it.

Raise it where guests reboot by themselves after a panic, and take their time. 0 asks for recovery at once. Only domains
with a panic device can say that they panic (hw:heartbeat_panic_device of their flavor). For guests that say that they
save a crash dump there is crash_dump_grace.

Seconds, 0 to 3600.
""",
    ),
    seconds_opt(
        "crash_dump_grace",
        _DEFAULT.crash_dump_grace,
        0.0,
        _DAY,
        """
How long a guest whose kernel said that it panics, and saves a crash dump by itself (CRASHLOADED), has to do so and to
reboot, before its recovery is asked for. That it panicked is told at once, as an alarm.

A recovery that comes earlier cuts the dump off. Raise it where guests have much memory, or dump over a network.
A Linux with kdump says so only with a panic device, and with crash_kexec_post_notifiers on its kernel's command line.

Seconds, 0 to 86400.
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
    cfg.Opt(
        "brake_ratio",
        type=types.Float(min=0.05, max=1.0),
        default=_DEFAULT.brake_ratio,
        mutable=True,
        help=prose(
            """
The share of this host's judged instances (those that have answered, or failed to, since the first fell silent) that
fall silent together, from which on the host is suspected, and not they.

A host whose storage or network stalls looks like many dead guests: then host_suspect is raised, and faults of its
instances ask for no recovery, and say `brake`. Raise it on hosts whose guests depend on each other. QEMU's own end and
panics that guests tell are not held back.

0.05 to 1.
"""
        ),
    ),
    cfg.IntOpt(
        "brake_count",
        default=_DEFAULT.brake_count,
        mutable=True,
        min=2,
        max=10000,
        help=prose(
            """
How many instances must have fallen silent together, at the least, for the host to be suspected; and brake_ratio of
those that are judged, too.

With fewer, a host's trouble cannot be told from that of its guests. A QEMU that hangs has a minute to go on in any
case. Raise it where guests that belong together run on one host, and fail together. A number above that of the host's
instances switches the brake off.

2 to 10000.
"""
        ),
    ),
    cfg.IntOpt(
        "recoveries",
        default=_DEFAULT.recoveries,
        mutable=True,
        min=1,
        max=1000,
        help=prose(
            """
How many recoveries of one instance are asked for within recovery_window. Further faults say `budget`.

An instance that dies again and again is not helped by another restart. The worker counts on its own host, the consumer
over all hosts: set the same number and window in both.

1 to 1000.
"""
        ),
    ),
    seconds_opt(
        "recovery_window",
        _DEFAULT.recovery_window,
        60.0,
        7 * _DAY,
        """
What `recoveries` is counted over.

Lower it only together with `recoveries`.

Seconds, 60 to 604800.
""",
        mutable=True,
    ),
    cfg.BoolOpt(
        "observe_only",
        default=_DEFAULT.observe_only,
        help=prose(
            """
Judge and report everything, but ask for no recovery: notifications say `alarm`, with `observe` as the reason.

Set it while monitoring is being introduced, to see what would have been recovered. Hold, brake and budget are not
looked at then: fewer would have been.
"""
        ),
    ),
]
