"""The Masakari reporter, told as transcripts: what Nova, Masakari and the worker say, and what it does about it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from oslo_config import cfg

from tests.fakes import a_fault
from tests.unit.consumer.fakes import ToldClouds, ToldLine
from vmhb_common.model.fault import Change, Fault, Resolution, cleared
from vmhb_consumer.reporters import masakari_rules
from vmhb_consumer.reporters.base import Case, Later, Permit, Refused
from vmhb_consumer.reporters.masakari import MasakariReporter
from vmhb_consumer.reporters.masakari_client import No, Unavailable
from vmhb_consumer.reporters.masakari_client import Refused as Refusal
from vmhb_consumer.reporters.masakari_rules import CRASH, SILENT, Memo, Notification, Server

NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
HA = {"HA_Enabled": "True"}
WELL = Server("cn1", "active", None, HA)


def asking(**changed: Any) -> Fault:
    """A fault, suspected at noon and raised 4 s later, that asks for its first recovery."""
    values: dict[str, Any] = {
        "host": "cn1",
        "recommended_action": "recover",
        "withheld": None,
        "recovery_attempt": 1,
        "suspected_at": NOON,
        "raised_at": NOON + timedelta(seconds=4),
        "occurred_at": NOON + timedelta(seconds=4),
    }
    return a_fault(**{**values, **changed})


class Story:
    """One fault, one reporter, and what surrounds it. Its clock begins 5 s after noon."""

    def __init__(self, server: Server | None = WELL, /, options: dict[str, Any] | None = None, **changed: Any) -> None:
        self.clouds = ToldClouds(server)
        self.now = NOON + timedelta(seconds=5)
        self.fault = self.latest = asking(**changed)
        self.memo: dict[str, Any] = {}
        self.permit = Permit(True)
        self.asked_permits = 0
        self.over = False  # is its place another's, as the last try said?
        self.line = ToldLine()
        self.heard_at = self.now
        conf = cfg.ConfigOpts()
        conf.register_opts(MasakariReporter.options(), group="reporter_masakari")
        conf([], default_config_files=[], default_config_dirs=[])
        keystone = {"auth_url": "http://localhost:5000/v3", "username": "u", "password": "p", "project_name": "p"}
        for name, value in {**keystone, **(options or {})}.items():
            conf.set_override(name, value, group="reporter_masakari")
        self.reporter = MasakariReporter(conf.reporter_masakari, lambda: self.now, self.clouds)

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def says(self, **changed: Any) -> None:
        """The worker's next notification of this fault."""
        self.latest = replace(self.latest, sequence=self.latest.sequence + 1, occurred_at=self.now, **changed)
        self.heard_at = self.now

    def clears(self, resolution: Resolution = Resolution.RECOVERED) -> None:
        self.latest = cleared(self.latest, resolution, self.now)

    def another_change(self) -> None:
        """The delivery of what was heard last, the one before being over."""
        self.fault = self.latest

    def step(self, *, reminder: bool = False) -> str:
        """One try, in a line."""
        case = Case(
            *(Change.UPDATED, self.fault, self.latest, self.heard_at, 1, self.memo, self._permit, reminder, self.line)
        )
        outcome = self.reporter.deliver(case)
        self.over = isinstance(outcome, Refused) or outcome.over
        self.memo = dict(outcome.memo) if outcome.memo is not None else self.memo
        match outcome:
            case Later():
                return f"again in {outcome.retry_in}: {outcome.why.partition(': ')[2]}"
            case Refused():
                return f"{'withheld' if outcome.rightly else 'given up'}: {outcome.why.partition(': ')[2]}"
        return "done"

    def _permit(self) -> Permit:
        self.asked_permits += 1
        return self.permit

    @property
    def posted(self) -> int:
        return len(self.clouds.posts)


def test_a_recovery_from_report_to_heartbeat() -> None:
    """Posted once, followed, and over when the guest answers: not when Masakari has finished."""
    story = Story()
    assert story.step() == "again in 5.0: follows notification n1"
    assert story.clouds.posts == [("cn1", story.fault.instance_uuid, SILENT)]
    story.clouds.becomes("running")
    assert "running" in story.step()
    story.later(30)
    story.clouds.becomes("finished")
    assert "answer is waited for" in story.step()
    story.clears()
    assert story.step() == "again in 0.0: the guest answers again"
    assert story.step() == "done"
    assert story.posted == 1


def test_a_crash_is_told_as_the_instance_monitor_tells_it() -> None:
    """So that Masakari refuses the second of two reports."""
    story = Story(cause="qemu_failed")
    story.step()
    assert story.clouds.posts == [("cn1", story.fault.instance_uuid, CRASH)]


def test_wanted_is_a_recovery_and_nothing_else() -> None:
    """Alarms, clears and hosts' faults are other reporters' affair."""
    reporter = Story().reporter
    assert reporter.wants(Change.RAISED, asking())
    assert reporter.wants(Change.UPDATED, asking())
    assert not reporter.wants(Change.RAISED, asking(recommended_action="alarm"))
    assert not reporter.wants(Change.CLEARED, asking())
    assert not reporter.wants(Change.RAISED, asking(instance_uuid=None))


def test_a_reminder_asks_for_nothing() -> None:
    """Once per attempt: a reminder repeats its number."""
    story = Story()
    assert story.step(reminder=True) == "done"
    assert story.posted == 0


def test_later_changes_of_the_same_attempt_ask_for_nothing() -> None:
    """New evidence of a fault whose recovery has ended."""
    story = Story()
    story.step()
    story.clouds.becomes("failed", "Failed to stop instance x")
    assert story.step().startswith("again in 0.0")
    assert "could not recover it (Failed to stop instance x)" in story.step()
    story.says(reason="more is known")
    story.another_change()
    assert story.step() == "done"
    assert story.posted == 1


def test_the_next_attempt_is_posted_anew() -> None:
    """The first one's notification is older than its own end, and isn't followed again."""
    story = Story()
    story.step()
    story.clouds.becomes("finished")
    story.step()
    story.later(290)
    story.says(recovery_attempt=2)
    assert "attempt 2 is asked for" in story.step()
    assert story.step().startswith("given up")
    story.another_change()
    assert story.step() == "again in 5.0: follows notification n2"
    assert story.posted == 2


def test_killed_between_posting_and_writing_it_down() -> None:
    """Masakari knows: what is there since the outage began is followed."""
    story = Story()
    story.step()
    story.memo = {}
    assert story.step() == "again in 5.0: follows notification n1"
    assert story.posted == 1


@pytest.mark.parametrize(
    ("event", "status", "at", "follows"),
    [
        (SILENT, "running", 2, True),
        (CRASH, "error", 2, True),
        (("IO_ERROR", "IO_ERROR_REPORT"), "finished", 2, True),
        (CRASH, "new", -10, True),  # the instance monitor's clock is not the worker's
        (CRASH, "finished", -60, False),  # an earlier outage
        (("LIFECYCLE", "STOPPED_DESTROYED"), "ignored", 2, False),  # the engine acts on no such event
        (SILENT, "ignored", 2, False),
    ],
)
def test_somebody_elses_report(event: tuple[str, str], status: str, at: float, follows: bool) -> None:
    """One of this outage that the engine acts on is followed; any other is nothing to us."""
    story = Story()
    uuid = str(story.fault.instance_uuid)
    story.clouds.known.append(Notification("theirs", uuid, event, NOON + timedelta(seconds=at), status))
    story.step()
    assert (Memo.of(story.memo).notification == "theirs", story.posted) == (follows, 0 if follows else 1)


@pytest.mark.parametrize(
    ("server", "cause", "says"),
    [
        (None, "guest_hung", "withheld: Nova has no such instance"),
        (replace(WELL, host="cn2"), "guest_hung", "withheld: Nova has it on cn2 by now, not on cn1"),
        (replace(WELL, host=None), "guest_hung", "withheld: Nova has it on no host by now, not on cn1"),
        (replace(WELL, vm_state="stopped"), "guest_hung", "withheld: it is stopped, and no crash is told of"),
        (replace(WELL, vm_state="stopped"), "host_lost_power", "withheld: it is stopped, and no crash is told of"),
        (replace(WELL, vm_state="stopped", stopped_by_user=True), "qemu_failed", "withheld: its user stopped it"),
        *(
            (
                replace(WELL, vm_state=state),
                "guest_hung",
                f"withheld: its vm_state is {state}: Masakari must not touch it",
            )
            for state in ("resized", "paused", "rescued", "error", "suspended", "shelved_offloaded", "soft-delete")
        ),
        *(
            (replace(WELL, task_state=task), "qemu_failed", f"again in 5.0: Nova is at it: task_state {task}")
            for task in ("powering-off", "deleting", "migrating", "rebooting")
        ),
    ],
)
def test_nova_speaks_against_it(server: Server | None, cause: str, says: str) -> None:
    """The engine would stop and start it whatever it is, and so it is not told."""
    story = Story(server, cause=cause)
    assert story.step() == says
    assert (story.posted, story.asked_permits) == (0, 0)


def test_a_crash_that_nova_has_noticed() -> None:
    """Nova itself stopped it after it had found it dead: that is nobody's wish."""
    story = Story(replace(WELL, vm_state="stopped"), cause="qemu_failed")
    assert story.step() == "again in 5.0: follows notification n1"


def test_a_users_stop_is_waited_for_and_then_respected() -> None:
    """Between its begin and its end nothing may be posted, nor after it."""
    story = Story(replace(WELL, task_state="powering-off"))
    assert "powering-off" in story.step()
    story.clouds.said_server = replace(WELL, vm_state="stopped", stopped_by_user=True)
    assert story.step().startswith("withheld")
    assert story.posted == 0


@pytest.mark.parametrize(
    ("metadata", "options", "posted"),
    [
        ({"HA_Enabled": "yes"}, {}, 1),
        ({"HA_Enabled": " TRUE "}, {}, 1),
        ({"HA_Enabled": "False"}, {}, 0),
        ({"ha_enabled": "True"}, {}, 0),
        ({"ours": "1"}, {"ha_enabled_instance_metadata_key": "ours"}, 1),
        ({}, {"process_all_instances": True}, 1),
        ({}, {}, 0),
    ],
)
def test_ha_enabled_as_the_engine_judges_it(metadata: dict[str, str], options: dict[str, Any], posted: int) -> None:
    """An instance that it would skip is said not to be recoverable, with what to do."""
    story = Story(replace(WELL, metadata=metadata), options=options)
    said = story.step()
    assert story.posted == posted
    assert posted or (said.startswith("given up: Masakari would skip it") and "openstack server set" in said)


def test_cleared_meanwhile() -> None:
    """Masakari was down for the whole life of the fault: it never hears of it."""
    story = Story()
    story.clouds.raises["notifications"] = [Unavailable("Masakari can't be asked: refused")]
    assert "Masakari can't be asked" in story.step()
    story.later(3600)
    story.clears()
    assert story.step() == "withheld: the fault is over: recovered"
    assert story.posted == 0


@pytest.mark.parametrize("withheld", ["late", "brake", "observe", None])
def test_not_asked_for_at_present(withheld: str | None) -> None:
    """The worker thought better of it: it may come back to it."""
    story = Story()
    story.says(recommended_action="alarm", withheld=withheld)
    assert "at present it is not asked for" in story.step()
    story.says(recommended_action="recover", withheld=None)
    assert "follows" in story.step()


def test_an_hours_old_recover() -> None:
    """Of a worker that was cut off, about an instance that Nova still has there: the next reminder must confirm it."""
    story = Story()
    story.later(2 * 3600)
    story.heard_at = story.now
    assert "its next reminder is waited for" in story.step()
    story.says()
    assert "follows" in story.step()


def test_an_evacuated_from_host_comes_back() -> None:
    """Its hours-old recover is about an instance that runs elsewhere."""
    story = Story(replace(WELL, host="cn2"))
    story.later(2 * 3600)
    assert story.step().startswith("withheld: Nova has it on cn2")


def test_an_attempt_that_was_overtaken() -> None:
    """Only the latest is asked for."""
    story = Story()
    story.says(recovery_attempt=2)
    assert story.step() == "withheld: attempt 2 has taken its place"


def test_the_permit_is_asked_for_last() -> None:
    """It counts against the budget: so when everything else speaks for it, and just before the post."""
    story = Story()
    story.permit = Permit(False, "the cloud-wide brake holds", 7.0)
    assert story.step().startswith("again in 7.0: ") or "brake" in story.step()
    story.permit = Permit(False, "its budget is spent")
    assert story.step().startswith("withheld")
    assert story.posted == 0
    story.permit = Permit(True)
    story.step()
    assert story.posted == 1


# -- one of a host at a time -------------------------------------------------------------------------------------------

LINE = "masakari:cn1"


def test_the_next_of_a_host_waits_for_its_turn() -> None:
    """Masakari's own tasks stop whatever they were told of: who waits here can still be asked. Nobody is asked anything
    until then, and it is asked about anew when its turn comes."""
    story = Story()
    story.line.others[LINE] = "recovery 1 of instance x is under way there"
    for _ in range(3):
        assert story.step() == "again in 5.0: recovery 1 of instance x is under way there"
        story.later(5)
    assert (story.posted, story.asked_permits) == (0, 0)
    story.line.others.clear()
    assert "follows notification n1" in story.step()
    assert story.line.mine == {LINE: 1800.0}


def test_somebody_was_quicker_to_take_the_turn() -> None:
    """Between our look and our step: then nothing is asked for."""
    story = Story()
    story.line.ahead = lambda name: None  # type: ignore[method-assign]
    story.line.others[LINE] = "somebody else"
    assert story.step() == "again in 5.0: somebody else"
    assert (story.posted, story.asked_permits) == (0, 0)


def test_a_fault_that_is_over_does_not_wait_for_its_turn() -> None:
    """It ends at once."""
    story = Story()
    story.line.others[LINE] = "somebody else"
    story.clears()
    assert story.step() == "withheld: the fault is over: recovered"


def test_one_whose_qemu_failed_goes_at_once() -> None:
    """It can't revive: it waits for nobody, and nobody for it."""
    story = Story(cause="qemu_failed")
    story.line.others[LINE] = "somebody else"
    assert "follows notification n1" in story.step()
    assert story.line.mine == {}


def test_one_whose_host_went_down_is_told_so_that_the_engine_asks_once_more() -> None:
    """Nova may be starting it by then: our task asks, and one of a host is told of at a time."""
    story = Story(cause="host_lost_power")
    story.line.others[LINE] = "somebody else"
    assert story.step() == "again in 5.0: somebody else"
    story.line.others.clear()
    assert story.step() == "again in 5.0: follows notification n1"
    assert story.clouds.posts == [("cn1", story.fault.instance_uuid, SILENT)]


def test_its_turn_is_over_where_nothing_was_posted() -> None:
    """Others of its host may be granted what it was not. What may have been posted keeps its turn."""
    story = Story()
    story.permit = Permit(False, "it has answered", 15.0)
    story.step()
    assert story.line.mine == {}
    story.permit = Permit(True)
    for why in No:
        story.clouds.raises["post"] = [Refusal(why, "no")]
        story.step()
        assert story.line.mine == {}, why
    story.clouds.raises["post"] = [Unavailable("no answer")]
    story.step()
    assert list(story.line.mine) == [LINE]


@pytest.mark.parametrize("status", ["finished", "failed", "ignored"])
def test_its_turn_lasts_until_masakari_is_done(status: str) -> None:
    """Not until the guest answers; and `error` is not the end: the engine comes back to it."""
    story = Story()
    story.step()
    for under_way in ("running", "error"):
        story.clouds.becomes(under_way)
        story.step()
        assert list(story.line.mine) == [LINE]
    story.clouds.becomes(status)
    story.step()
    assert story.line.mine == {}


def test_its_turn_lasts_though_the_guest_answers_again() -> None:
    """By itself, and Masakari will still come to it: then the next one's report would wait in Masakari."""
    story = Story()
    story.step()
    story.clears()
    story.clouds.becomes("running")
    assert story.step() == "again in 5.0: the guest answers again, and Masakari has it: running"
    story.later(121)
    assert story.step().startswith("again in 15.0")
    assert list(story.line.mine) == [LINE]
    story.clouds.becomes("finished")
    assert story.step() == "again in 0.0: the guest answers again"
    assert story.line.mine == {}


def test_its_turn_is_over_after_recovery_time() -> None:
    """An engine that is down holds up nobody for ever."""
    story = Story()
    story.step()
    story.later(1801)
    story.clears()
    assert story.step() == "again in 0.0: the guest answers again"
    assert story.line.mine == {}


def test_its_turn_is_over_when_its_notification_is_gone() -> None:
    """Purged: the engine will not come to it."""
    story = Story()
    story.step()
    story.clears()
    story.clouds.known.clear()
    assert story.step() == "again in 0.0: the guest answers again"
    assert story.line.mine == {}


def test_the_end_of_its_turn_is_written_down() -> None:
    """While the database is away it is said again, and nothing is lost."""
    story = Story()
    story.step()
    story.clouds.becomes("finished")
    story.line.away = True
    assert "the next one's turn can't be written down" in story.step()
    story.line.away = False
    assert "answer is waited for" in story.step()
    assert story.line.mine == {}


def test_somebody_elses_report_of_the_same_outage_has_its_turn() -> None:
    """It is one that Masakari acts on; and so is ours, found again after we were killed."""
    story = Story()
    story.step()
    story.memo, story.line.mine = {}, {}
    assert "follows notification n1" in story.step()
    assert list(story.line.mine) == [LINE]


def test_over_while_nobody_knew_that_it_was_posted() -> None:
    """We were killed right after, and the guest answered: until Masakari is done no other is posted, or for so long."""
    story = Story()
    story.step()
    story.memo = {}
    story.clears()
    assert story.step() == "again in 5.0: the fault is over: recovered, and Masakari still has a report of it"
    assert list(story.line.mine) == [LINE]
    story.later(1800)
    assert story.step() == "withheld: the fault is over: recovered"
    assert story.line.mine == {}


# -- refused -----------------------------------------------------------------------------------------------------------


def test_a_duplicate_of_the_same_outage_is_followed() -> None:
    """Somebody was quicker, between our question and our post."""
    story = Story()
    uuid = str(story.fault.instance_uuid)
    theirs = Notification("theirs", uuid, SILENT, NOON + timedelta(seconds=5), "new")
    story.clouds.raises["post"] = [Refusal(No.DUPLICATE, "is duplicate")]
    story.clouds.raises["notifications"] = []
    real = story.clouds.post

    def quicker(*arguments: Any) -> str:
        story.clouds.known.append(theirs)
        return real(*arguments)

    story.clouds.post = quicker  # type: ignore[method-assign, assignment]
    assert story.step() == "again in 5.0: follows notification theirs"


def test_a_duplicate_of_an_earlier_outage_is_waited_for() -> None:
    """It hung again soon after a recovery: Masakari refuses that within its window, and then takes it."""
    story = Story()
    uuid = str(story.fault.instance_uuid)
    story.clouds.known.append(Notification("old", uuid, SILENT, NOON - timedelta(seconds=100), "finished"))
    story.clouds.raises["post"] = [Refusal(No.DUPLICATE, "is duplicate")]
    assert story.step().startswith("again in 76.0: Masakari takes it for the same as old")
    story.later(76)
    assert "follows notification n2" in story.step()


def test_a_duplicate_of_one_that_was_ignored_is_waited_for() -> None:
    """Of this outage, and nobody acts on it: another monitor's, say, that came before anything was known for sure."""
    story = Story()
    uuid = str(story.fault.instance_uuid)
    story.clouds.known.append(Notification("theirs", uuid, SILENT, NOON + timedelta(seconds=1), "ignored"))
    story.clouds.raises["post"] = [Refusal(No.DUPLICATE, "is duplicate")]
    assert "the same as theirs, which it ignored, for 180 s" in story.step()
    story.later(180)
    assert "follows notification n2" in story.step()


def test_a_duplicate_of_nothing() -> None:
    """Looked at again soon."""
    story = Story()
    story.clouds.raises["post"] = [Refusal(No.DUPLICATE, "is duplicate")]
    assert story.step().startswith("again in 5.0: Masakari calls it a duplicate")


@pytest.mark.parametrize(
    ("why", "says"),
    [
        (No.MAINTENANCE, "again in 60.0: host cn1 is on maintenance"),
        (No.UNKNOWN_HOST, "again in 60.0: Masakari does not know host cn1"),
        (No.INVALID, "given up: Masakari takes no such notification"),
    ],
)
def test_masakari_refuses(why: No, says: str) -> None:
    """What an operator can mend is tried again; what nobody can is given up."""
    story = Story()
    story.clouds.raises["post"] = [Refusal(why, "no")]
    assert story.step().startswith(says)


@pytest.mark.parametrize("call", ["server", "notifications", "post", "progress"])
def test_anything_may_be_away(call: str) -> None:
    """It is tried again, with the outbox's back-off, and nothing is posted twice."""
    story = Story()
    if call == "progress":
        story.step()
    story.clouds.raises[call] = [Unavailable("away")]
    assert story.step().startswith("again in None: away")
    assert "follows" in story.step() or call == "progress"
    assert story.posted == 1


@pytest.mark.parametrize(
    ("status", "messages", "says"),
    [
        ("failed", ("Failed to start instance x",), "could not recover it (Failed to start instance x)"),
        ("ignored", (), "ignored it (paused or rescued by then"),
        ("ignored", ("Recovery of instance 'x' is ignored",), "ignored it (Recovery of instance"),
        (
            "finished",
            ("Skipping recovery for instance: x as it is not Ha_Enabled",),
            "skipped it, it was not HA-enabled",
        ),
    ],
)
def test_the_outcome_is_told_as_what_it_is(status: str, messages: tuple[str, ...], says: str) -> None:
    """Once, as a failure."""
    story = Story()
    story.step()
    story.clouds.becomes(status, *messages)
    assert says in story.step()
    said = story.step()
    assert said.startswith("given up") and says in said


def test_an_error_is_not_the_end() -> None:
    """The engine tries once more by itself."""
    story = Story()
    story.step()
    story.clouds.becomes("error")
    assert story.step().startswith("again in 5.0")
    story.later(130)
    assert story.step().startswith("again in 15.0")


def test_an_engine_that_is_down() -> None:
    """Not for ever."""
    story = Story()
    story.step()
    story.later(1801)
    assert "still new in Masakari" in story.step()
    assert story.step().startswith("given up")


def test_finished_without_a_heartbeat() -> None:
    """In time, or it is said."""
    story = Story()
    story.step()
    story.clouds.becomes("finished")
    story.step()
    story.later(200)
    assert story.step().startswith("again in 15.0")
    story.later(101)
    assert "301 s later the guest still does not answer" in story.step()
    assert story.step().startswith("given up")


def test_deleted_while_it_was_waited_for() -> None:
    """Who is not there any more need not answer: nothing to alarm anybody with."""
    story = Story()
    story.step()
    story.clouds.becomes("finished")
    story.step()
    story.clouds.said_server = None
    story.later(301)
    assert story.step() == "again in 0.0: the instance was deleted meanwhile"
    assert story.step() == "done"


def test_purged() -> None:
    """Masakari's operator removed it."""
    story = Story()
    story.step()
    story.clouds.known.clear()
    assert "has its notification no more" in story.step()


@pytest.mark.parametrize("resolution", [one for one in Resolution if one is not Resolution.RECOVERED])
def test_a_clear_of_another_kind_confirms_nothing(resolution: Resolution) -> None:
    """The recovery goes on and is seen to its end; nothing is posted again."""
    story = Story()
    story.step()
    story.clears(resolution)
    story.clouds.becomes("running")
    assert story.step().startswith("again in 5.0")
    story.clouds.becomes("finished")
    assert f"whether the guest answers is not known: fault is {resolution}" in story.step()
    assert story.step() == "done"
    assert story.posted == 1


def test_check_and_close() -> None:
    """What stands in the way, in a sentence."""
    story = Story()
    assert story.reporter.check() is None
    story.clouds.raises["check"] = [Unavailable("Masakari lets us not in, check the credentials: 401")]
    assert story.reporter.check() == "Masakari lets us not in, check the credentials: 401"
    story.reporter.close()
    assert story.clouds.closed


def test_credentials_that_are_missing() -> None:
    """Said at the start."""
    with pytest.raises(ValueError, match="auth_url"):
        Story(options={"auth_url": None})


def test_a_memo_survives_json() -> None:
    """It is all that is left after a restart."""
    memo = Memo(2, "n", posted_at=NOON, finished_at=NOON, ended_at=NOON, outcome="o", told_by=3)
    assert Memo.of(memo.json()) == memo
    assert Memo.of({}) == Memo()
    assert Memo().json() == {"attempt": 0}


def test_rows_are_functions_with_names() -> None:
    """`before` is the table, in this order."""
    assert [row.__name__ for row in masakari_rules.BEFORE][:2] == ["_no_fault", "_posted_already"]


def test_its_place_is_held_while_masakari_is_at_it() -> None:
    """From the report until nothing is left to be followed, however it ended."""
    story = Story()
    held = [(story.step(), story.over)]
    story.clouds.becomes("running")
    held.append((story.step(), story.over))
    story.clouds.becomes("failed")
    held += [(story.step(), story.over), (story.step(), story.over)]
    assert [over for _line, over in held] == [False, False, False, True], held
    story = Story()
    story.step()
    story.clouds.becomes("finished")
    assert "answer is waited for" in story.step() and not story.over
    story.clears()
    assert story.step() == "again in 0.0: the guest answers again" and not story.over
    assert story.step() == "done" and story.over


@pytest.mark.parametrize("refusal", [No.MAINTENANCE, No.UNKNOWN_HOST, No.DUPLICATE])
def test_what_masakari_does_not_take_holds_no_place(refusal: No) -> None:
    """It is tried again, with a place of that moment; where Masakari gave no answer, it may be at it."""
    story = Story()
    story.clouds.raises["post"] = [Refusal(refusal, "no"), Unavailable("no answer")]
    assert story.step().startswith("again in ") and story.over
    assert story.step() == "again in None: no answer" and not story.over
    assert story.asked_permits == 2


def test_what_waits_for_something_else_holds_no_place() -> None:
    """Nova is at the instance: nothing was posted yet."""
    story = Story(replace(WELL, task_state="rebooting"))
    assert story.step().startswith("again in ") and story.over
