"""Has Masakari recover what a fault asks to have recovered, and sees to it that the guest answers afterwards.

`masakari_rules` decides; `masakari_client` asks both. Here one is told what the other says, and the answer is put in
the words of the reporters' contract.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from oslo_config import cfg

from vmhb_common.conf.types import prose, seconds_opt
from vmhb_common.model.fault import Change, Fault
from vmhb_consumer.reporters import keystone, masakari_rules
from vmhb_consumer.reporters.base import Case, Done, Later, Outcome, Refused, Reporter
from vmhb_consumer.reporters.masakari_client import Clouds, No, OpenStack, Unavailable
from vmhb_consumer.reporters.masakari_client import Refused as Refusal
from vmhb_consumer.reporters.masakari_rules import Engine, Memo, Times

LOG = logging.getLogger(__name__)

#: `check` has 4 s in all; Keystone is asked before Masakari.
CHECK_TIME = 1.9
#: While a host is on maintenance in Masakari (seconds): its operator ends that, or the end of an evacuation.
MAINTENANCE = 60.0
_TIMES = Times()
_ENGINE = Engine()


class MasakariReporter(Reporter):
    """See the module. BLOCKS for at most three requests; `timeout` is each one's."""

    name = "masakari"
    summary = "Recovery of instances by Masakari"
    acts = True

    @classmethod
    def options(cls) -> Sequence[cfg.Opt]:
        """Its group."""
        return [*_OPTIONS, *keystone.options()]

    def __init__(self, options: Any, now: Callable[[], datetime], clouds: Clouds | None = None) -> None:
        """As the contract says. clouds: for tests."""
        keystone.load(options)  # says what is missing
        self._now = now
        self._times = Times(
            confirmed_within=options.confirmed_within,
            duplicate_window=options.duplicate_window,
            recovery_time=options.recovery_time,
            heartbeat_time=options.heartbeat_time,
        )
        self._engine = Engine(options.ha_enabled_instance_metadata_key, options.process_all_instances)
        # The options are read anew with each session.
        self._clouds: Clouds = clouds or OpenStack(
            lambda: keystone.load(options), options.region_name, options.interface
        )

    def check(self) -> str | None:
        """May we read Masakari's notifications?"""
        try:
            self._clouds.check(CHECK_TIME)
        except (Unavailable, Refusal) as error:
            return str(error)
        return None

    def wants(self, change: Change, fault: Fault) -> bool:
        """What asks for a recovery of an instance. Whether it is new is known later."""
        return change is not Change.CLEARED and fault.recommended_action == "recover" and bool(fault.instance_uuid)

    def deliver(self, case: Case) -> Outcome:
        """One step of a recovery: most end with Later, until the guest answers or nothing is left to be hoped for."""
        if case.reminder:
            return Done(known=False)
        memo = Memo.of(case.memo)
        attempt = case.fault.recovery_attempt
        try:
            if memo.attempt > attempt or (memo.attempt == attempt and memo.ended_at is not None):
                return self._tell(case, memo)
            if memo.attempt == attempt and memo.notification is not None:
                return self._follow(case, memo, memo.notification)
            return self._ask(case, memo)
        except Unavailable as error:
            return Later(None, f"{_of(case)}: {error}")

    def close(self) -> None:
        """As the contract says."""
        self._clouds.close()

    # -- before it is posted -----------------------------------------------------------------------------------------

    def _ask(self, case: Case, memo: Memo) -> Outcome:
        uuid, line = str(case.fault.instance_uuid), masakari_rules.line_of(case.latest)
        if line is not None and masakari_rules.over(case.fault, case.latest) is None:
            ahead = case.queue.ahead(line)
            if ahead is not None:
                return _waits(case, ahead)
        begun = masakari_rules.since(case.fault, memo)
        # Nova last: it changes while we ask Masakari.
        notifications = self._clouds.notifications(uuid, begun)
        situation = masakari_rules.Situation(
            fault=case.fault,
            latest=case.latest,
            received_at=case.received_at,
            notifications=notifications,
            server=self._clouds.server(uuid),
            at=self._now(),
            times=self._times,
            engine=self._engine,
        )
        step = masakari_rules.before(situation)
        if isinstance(step, masakari_rules.Post):
            return self._in_turn(case, line, begun)
        if isinstance(step, masakari_rules.Leave):
            return self._let_go(case, step, masakari_rules.is_with_masakari(situation))
        return self._take(case, step)

    def _let_go(self, case: Case, step: masakari_rules.Leave, reported: bool) -> Outcome:
        """We may have been killed after it was posted: then it is still its host's turn."""
        if reported:
            return Later(masakari_rules.POLL, f"{_of(case)}: {step.why}, and Masakari still has a report of it")
        self._leave(case)
        return self._take(case, step)

    def _in_turn(self, case: Case, line: str | None, begun: datetime) -> Outcome:
        """Its turn is over at once where nothing is posted: others of its host may be granted what this one was not."""
        ahead = None if line is None else case.queue.enter(line, self._times.recovery_time)
        if ahead is not None:
            return _waits(case, ahead)
        outcome = self._post(case, begun)
        if not (isinstance(outcome, Later) and outcome.known):
            self._leave(case)
        return outcome

    def _post(self, case: Case, begun: datetime) -> Outcome:
        """Raises Unavailable: it may have been posted, and its turn goes on."""
        permit = case.permit()
        if not permit.granted:
            why = f"{_of(case)} is held back: {permit.why}"
            return Refused(why, rightly=True) if permit.seconds is None else Later(permit.seconds, why)
        fault = case.latest
        try:
            notification = self._clouds.post(
                fault.host, str(fault.instance_uuid), masakari_rules.event_of(fault), self._now()
            )
        except Refusal as refusal:
            return self._refused(case, refusal, begun)
        LOG.info("%s: asked Masakari for it, notification %s", _of(case), notification)
        return self._take(case, masakari_rules.Follow(notification))

    @staticmethod
    def _leave(case: Case) -> bool:
        """The same whatever its cause was when it entered."""
        return case.queue.leave(masakari_rules.line_at(case.fault.host))

    def _refused(self, case: Case, refusal: Refusal, begun: datetime) -> Outcome:
        fault = case.latest
        if refusal.why is No.DUPLICATE:
            window = self._now() - timedelta(seconds=self._times.duplicate_window) - masakari_rules.CLOCKS
            known = self._clouds.notifications(str(fault.instance_uuid), min(window, begun))
            return self._take(
                case, masakari_rules.duplicate(masakari_rules.event_of(fault), known, begun, self._now(), self._times)
            )
        if refusal.why is No.MAINTENANCE:
            why = f"{_of(case)}: host {fault.host} is on maintenance in Masakari: {refusal}"
            return Later(MAINTENANCE, why, over=True)
        if refusal.why is No.UNKNOWN_HOST:
            return Later(
                MAINTENANCE,
                f"{_of(case)}: Masakari does not know host {fault.host}, and recovers nothing there. Register it: "
                f"openstack segment host create {fault.host} COMPUTE SSH <segment>",
                over=True,
            )
        return Refused(f"{_of(case)}: Masakari takes no such notification, is its release supported? {refusal}")

    def _take(self, case: Case, step: masakari_rules.Follow | masakari_rules.Wait | masakari_rules.Leave) -> Outcome:
        what = _of(case)
        if isinstance(step, masakari_rules.Wait):
            return Later(step.seconds, f"{what}: {step.why}", over=True)  # nothing was posted, or it was refused
        if isinstance(step, masakari_rules.Leave):
            return Refused(f"{what}: {step.why}", rightly=step.rightly)
        memo = Memo(case.fault.recovery_attempt, step.notification, posted_at=self._now())
        line = masakari_rules.line_of(case.latest)
        if line is not None:  # somebody else's report, or ours from before we were killed, is one of its host's, too
            case.queue.enter(line, self._times.recovery_time)
        return Later(masakari_rules.POLL, f"{what}: follows notification {step.notification}", memo.json(), known=True)

    # -- afterwards --------------------------------------------------------------------------------------------------

    def _follow(self, case: Case, memo: Memo, notification: str) -> Outcome:
        shown = self._clouds.progress(notification)
        if shown is not None and shown.status == "finished" and memo.finished_at is None:
            memo = replace(memo, finished_at=self._now())
        step = masakari_rules.after(
            masakari_rules.Progress(case.fault, case.latest, memo, shown, self._now(), self._times)
        )
        done = shown is None or shown.status in masakari_rules.ENDED or isinstance(step, masakari_rules.End)
        if done and not self._leave(case):
            why = "it is done, and the next one's turn can't be written down"
            return Later(masakari_rules.POLL, f"{_of(case)}, notification {notification}: {why}", known=True)
        if isinstance(step, masakari_rules.Wait):
            return Later(step.seconds, f"{_of(case)}, notification {notification}: {step.why}", memo.json(), known=True)
        if not step.good and self._clouds.server(str(case.fault.instance_uuid)) is None:
            step = masakari_rules.End("the instance was deleted meanwhile", good=True)
        # First it is written down, then told: so it is told once, and the next attempt knows since when it counts.
        ended = replace(
            memo, ended_at=self._now(), outcome=None if step.good else step.why, told_by=case.fault.sequence
        )
        LOG.info("%s, notification %s: %s", _of(case), notification, step.why)
        return Later(0.0, f"{_of(case)}, notification {notification}: {step.why}", ended.json(), known=True)

    def _tell(self, case: Case, memo: Memo) -> Outcome:
        """How it ended: as the end of the delivery that followed it. Other changes of the same attempt end at once."""
        if memo.outcome is not None and memo.told_by == case.fault.sequence:
            return Refused(f"{_of(case)}, notification {memo.notification}: {memo.outcome}", known=True)
        return Done(over=True)


def _waits(case: Case, ahead: str) -> Later:
    return Later(masakari_rules.TURN, f"{_of(case)} waits for its turn on {case.latest.host}: {ahead}")


def _of(case: Case) -> str:
    fault = case.fault
    return f"recovery {fault.recovery_attempt} of instance {fault.instance_uuid} ({case.latest.cause})"


_OPTIONS = (
    cfg.StrOpt(
        "interface",
        default="internal",
        choices=("internal", "public", "admin"),
        help=prose(
            """
The endpoints of Nova and Masakari to take from Keystone's catalogue. Change it where the consumer can't reach these.
"""
        ),
    ),
    cfg.StrOpt(
        "region_name",
        help=prose("The region to take Nova and Masakari from, where the catalogue has several. By default any."),
    ),
    cfg.StrOpt(
        "ha_enabled_instance_metadata_key",
        default=_ENGINE.ha_enabled_key,
        help=prose(
            """
The instance metadata that opts in to recovery: as [instance_failure] ha_enabled_instance_metadata_key of Masakari's
engine.

Change it only where masakari.conf does. Masakari skips an instance without it, and so it is not asked.
"""
        ),
    ),
    cfg.BoolOpt(
        "process_all_instances",
        default=_ENGINE.process_all_instances,
        help=prose(
            """
Whether instances need no metadata to be recovered: as [instance_failure] process_all_instances of Masakari's engine.

Set it where masakari.conf does. What is recovered is then a matter of the flavor's hw:heartbeat_action alone.
"""
        ),
    ),
    seconds_opt(
        "confirmed_within",
        _TIMES.confirmed_within,
        30.0,
        86400.0,
        """
How long ago the worker may have said that the fault is there, for Masakari to be asked: one reminder_interval of the
workers, and a bit. What is older waits for the next reminder.

Change it with reminder_interval. A worker that was cut off tells of faults that are hours old.

Seconds, 30 to 86400.
""",
    ),
    seconds_opt(
        "duplicate_window",
        _TIMES.duplicate_window,
        1.0,
        86400.0,
        """
How long Masakari takes the same report for a duplicate: as duplicate_notification_detection_interval of masakari.conf.

Change it only where masakari.conf does. An instance that fails again within it is reported when it is over.

Seconds, 1 to 86400.
""",
    ),
    seconds_opt(
        "recovery_time",
        _TIMES.recovery_time,
        60.0,
        86400.0,
        """
How long Masakari may take until its notification has finished; afterwards it is reported as not recovered.

Until then no other instance of its host that may answer again by itself is reported. Masakari's engine takes a minute
for one that hangs, and waits for what else was reported of the host: lower it no further than that takes.

Seconds, 60 to 86400.
""",
    ),
    seconds_opt(
        "heartbeat_time",
        _TIMES.heartbeat_time,
        1.0,
        86400.0,
        """
How long a guest may take to answer after Masakari has finished; afterwards it is reported as not recovered.

Raise it where guests take longer to boot.

Seconds, 1 to 86400.
""",
    ),
)
