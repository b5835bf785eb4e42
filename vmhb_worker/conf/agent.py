"""[agent]: the stock guest agent, asked through libvirt."""

from __future__ import annotations

from oslo_config import cfg

from vmhb_common.conf.types import prose, seconds_opt

GROUP = "agent"
HELP = "The channel of the stock QEMU guest agent"

OPTS = [
    cfg.IntOpt(
        "workers",
        default=4,
        min=1,
        max=64,
        help=prose(
            """
How many guests that answer are asked at the same time.

Each holds one of libvirtd's workers (max_workers in libvirtd.conf or virtqemud.conf, by default 20, shared with Nova)
until the guest has answered, which takes milliseconds. Raise it when many instances are asked every second and beats
are reported as skipped for want of a worker; raise libvirtd's max_workers with it. 1 to 64.
"""
        ),
    ),
    cfg.IntOpt(
        "slow_workers",
        default=4,
        min=1,
        max=64,
        help=prose(
            """
How many guests that are known to be silent or slow are asked at the same time, beside those of `workers`.

Such a request lasts until it times out, up to 15 s. Raise it when beats of slow guests are reported as skipped, with
the same thought for libvirtd's max_workers: with the defaults, all that this service asks takes 12 of them at most.
1 to 64.
"""
        ),
    ),
    seconds_opt(
        "exit_settle_time",
        120.0,
        0.0,
        3600.0,
        """
How long a guest's agent may be away, its end of the channel closed, before that is reported as agent_exited.

An orderly shutdown or reboot stops the agent well before the guest is down: systemd gives other services 90 s. Lower
it where guests are known to stop fast and agents to be restarted at once. A reset, shutdown or reopened channel ends
the waiting at once.

Seconds, 0 to 3600.
""",
    ),
]
