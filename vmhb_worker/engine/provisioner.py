"""Sees to it that running domains carry their policy and have their channels. Belongs to the engine's thread.

What is missing is decided in `core.provisioning`, and given by the hypervisor's adapter. A domain has one step under
way at most. What can't be done now is tried again, at ever longer intervals; what failed for good, not before it boots.
"""

from __future__ import annotations

import logging

from vmhb_common.model.policy import HeartbeatPolicy
from vmhb_worker.core import provisioning
from vmhb_worker.core.bounded import keep
from vmhb_worker.core.domain_xml import DomainView
from vmhb_worker.core.events import DomainSeen, PlugChannel, Provisioned, Step, WritePolicy
from vmhb_worker.core.pending_policies import Wish, Wishes
from vmhb_worker.core.provisioning import Obstacle
from vmhb_worker.engine.registry import Roster
from vmhb_worker.interfaces import Hypervisor

LOG = logging.getLogger(__name__)

#: Seconds before a step is tried again: doubled from the first to the last.
FIRST_PAUSE = 10.0
LAST_PAUSE = 600.0
#: So many reasons are remembered as said, of all instances together.
LIMIT = 10_000

_DONE: dict[type[Step], str] = {
    WritePolicy: "the policy that was sent for it is in its domain now",
    PlugChannel: "its application channel is plugged in",
}
_NOT_DONE: dict[type[Step], str] = {
    WritePolicy: "the policy that was sent for it could not be written into its domain",
    PlugChannel: "its application channel could not be plugged in",
}
_REMEDY = "see libvirtd's log; it is tried again when the instance boots"


class Provisioner:
    """`now`: monotonic seconds."""

    def __init__(self, roster: Roster, hypervisor: Hypervisor) -> None:
        self._roster = roster
        self._hypervisor = hypervisor
        self._wishes = Wishes()
        self._under_way: dict[str, str] = {}  # uuid -> the boot that its step was begun in
        self._failed: dict[str, str] = {}  # uuid -> the boot in which nothing more is tried
        self._again: dict[str, tuple[float, float]] = {}  # uuid -> when to look again, and the pause before that
        self._said: dict[tuple[str, str], None] = {}

    def configure(self, uuid: str, wish: Wish, now: float) -> bool:
        """This is asked for an instance: its domain is looked at, now or when it is here. False where it is stale."""
        if not self._wishes.keep(uuid, wish, now):
            LOG.info("instance %s: a policy that was sent for it is older than what came before, and ignored", uuid)
            return False
        self._failed.pop(uuid, None)
        self._hypervisor.describe(uuid)
        return True

    def seen(self, seen: DomainSeen, view: DomainView, policy: HeartbeatPolicy | None, now: float) -> None:
        """A domain's description. policy: what it asks for, None where that makes no sense."""
        uuid = seen.uuid
        wish = self._wishes.of(uuid, now)
        if wish is not None and not provisioning.yields(view, wish.observed_at):
            self._wishes.settle(uuid, now)
        if uuid in self._under_way or self._failed.get(uuid) == seen.boot:
            return
        # A domain that is paused may be arriving from another host: it is seen again when it goes on.
        found = provisioning.missing(view, policy, wish) if seen.state == "running" else None
        if found is None or isinstance(found, Obstacle):
            self._again.pop(uuid, None)
            if found is not None:
                self._say(uuid, found.why)
        elif self._probing(uuid):
            self._later(uuid, now)
        else:
            self._under_way[uuid] = seen.boot
            self._hypervisor.provision(uuid, found)

    def forgotten(self, uuid: str) -> None:
        """libvirt no longer knows it. What is wished for it holds for the one that may come."""
        self._again.pop(uuid, None)
        self._failed.pop(uuid, None)

    def ended(self, report: Provisioned, now: float) -> None:
        """A step came to its end."""
        uuid = report.uuid
        boot = self._under_way.pop(uuid, "")
        if report.changed:
            LOG.info("instance %s: %s", uuid, _DONE[type(report.step)])
            if isinstance(report.step, WritePolicy):
                self._wishes.drop(uuid)
            self._hypervisor.describe(uuid)  # the news of it may have come while the step was still under way
        elif report.failure is not None and report.again:
            self._say(uuid, f"{_NOT_DONE[type(report.step)]}, and is tried again: {report.failure}")
            self._later(uuid, now)
        elif report.failure is not None:
            self._failed[uuid] = boot
            self._say(uuid, f"{_NOT_DONE[type(report.step)]}: {report.failure}: {_REMEDY}")

    def tidy(self, now: float) -> None:
        """Look again at what could not be done."""
        self._wishes.tidy(now)
        for uuid, (at, _pause) in self._again.items():
            if at <= now and uuid not in self._under_way:
                self._hypervisor.describe(uuid)

    # -- helpers -------------------------------------------------------------------------------------------------

    def _later(self, uuid: str, now: float) -> None:
        pause = min(2 * self._again[uuid][1], LAST_PAUSE) if uuid in self._again else FIRST_PAUSE
        self._again[uuid] = (now + pause, pause)

    def _probing(self, uuid: str) -> bool:
        """Is a verdict waiting for what the domain answers? Then it is left alone."""
        instance = self._roster.get(uuid)
        return instance is not None and instance.monitor.probing

    def _say(self, uuid: str, why: str) -> None:
        """Once per instance and reason."""
        if (uuid, why) not in self._said:
            LOG.warning("instance %s: %s", uuid, why)
            keep(self._said, (uuid, why), None, LIMIT)
