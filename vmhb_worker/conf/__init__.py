"""The worker's options: one module per group. Must not know what is done with them.

A module has GROUP (None for DEFAULT), the group's own HELP and OPTS. To add a group: one module, one row in GROUPS.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from oslo_config import cfg

from vmhb_common.conf import groups, notifications, senders
from vmhb_worker.conf import agent, channel, default, faults, libvirt, policy, verdict
from vmhb_worker.settings import AgentSettings, ChannelSettings, NotificationSettings, Settings, VerdictSettings

GROUPS = (default, libvirt, policy, agent, channel, verdict, faults, notifications)


def list_opts() -> list[tuple[cfg.OptGroup | None, Sequence[cfg.Opt]]]:
    """For oslo-config-generator."""
    return groups.list_opts(GROUPS)


def register(conf: cfg.ConfigOpts) -> None:
    """Make our options known to `conf`."""
    groups.register(conf, GROUPS)


def settings(conf: cfg.ConfigOpts) -> Settings:
    """The plain values. Raises ValueError (oslo.config's own is one) where one is out of bounds.

    `vmhb_common.conf.check` says all that is wrong, rather than the first.
    """
    agent_group, verdict_group, notify = conf.agent, conf.verdict, conf.vmhb_notifications
    return Settings(
        host=conf.host,
        state_path=Path(conf.state_path),
        own_queue_only=conf.own_queue_only,
        # Nova's own default is empty, and means the same.
        connection_uri=conf.libvirt.connection_uri or libvirt.DEFAULT_URI,
        limits=policy.limits(conf),
        agent=AgentSettings(
            workers=agent_group.workers,
            slow_workers=agent_group.slow_workers,
            exit_settle_time=agent_group.exit_settle_time,
        ),
        channel=ChannelSettings(burst=conf.channel.burst, lines_per_beat=conf.channel.lines_per_beat),
        max_maintenance=conf.policy.max_maintenance,
        verdict=VerdictSettings(
            panic_grace=verdict_group.panic_grace,
            crash_dump_grace=verdict_group.crash_dump_grace,
            reboot_grace=verdict_group.reboot_grace,
            reminder_interval=verdict_group.reminder_interval,
            probe_interval=verdict_group.probe_interval,
            gone_grace=verdict_group.gone_grace,
            observe_only=verdict_group.observe_only,
            brake_ratio=verdict_group.brake_ratio,
            brake_count=verdict_group.brake_count,
            recoveries=verdict_group.recoveries,
            recovery_window=verdict_group.recovery_window,
        ),
        notifications=NotificationSettings(topics=tuple(notify.topics), transport_url=notify.transport_url or None),
        senders=senders.settings(conf),
    )
