"""The libvirt adapter, as far as it needs no QEMU: its tables, its order of reports, and libvirt's own test driver."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast
from xml.etree import ElementTree

import libvirt
import pytest

from vmhb_common.model.causes import Cause
from vmhb_common.model.policy import Channel
from vmhb_worker.adapters.libvirt import LibvirtHypervisor, adapter, check, constants, event_map
from vmhb_worker.adapters.libvirt.agent_commands import failure
from vmhb_worker.adapters.libvirt.connection import Connection, Lines, NoLine
from vmhb_worker.adapters.libvirt.domains import Domains
from vmhb_worker.adapters.libvirt.event_map import EVENTS, STATE_NAMESPACE, Told, port_changed
from vmhb_worker.adapters.libvirt.pool import Pool, Task
from vmhb_worker.adapters.libvirt.process import UNSEEN, Processes, run_folder
from vmhb_worker.adapters.libvirt.queries import control, job, vitals, without_namespace
from vmhb_worker.adapters.libvirt.report_order import Feed, Lost
from vmhb_worker.adapters.libvirt.translations import MESSAGES, Translations
from vmhb_worker.core import lifecycle, spoken_of
from vmhb_worker.core.domain_xml import policy_element
from vmhb_worker.core.events import (
    Booted,
    Control,
    DomainForgotten,
    DomainSeen,
    Event,
    Exit,
    Failure,
    Happened,
    HypervisorDown,
    HypervisorHeard,
    HypervisorUp,
    Job,
    LookControl,
    Looked,
    LookJob,
    LookState,
    MemoryFailed,
    Paused,
    PlugChannel,
    PortChanged,
    Provisioned,
    QemuEnded,
    Report,
    Resumed,
    Silenced,
    State,
    Step,
    Stopped,
    Stuck,
    Unavailable,
    Unsilenced,
    Vcpu,
    Vitals,
    WatchdogFired,
    WritePolicy,
)
from vmhb_worker.core.main_thread import MainThread
from vmhb_worker.core.suspicion import JOB_BELIEVED
from vmhb_worker.interfaces import AgentError

T = TypeVar("T")
UNEXPLAINED = "shut off, and libvirt does not know why"
A, B = "a", "b"
NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)


def seen(domain: str, state: str = "running") -> DomainSeen:
    return DomainSeen(domain, "<domain/>", state, "booted", "1")


def has_state(state: str, domain: DomainSeen) -> bool:
    return domain.state == state


NO = Failure.NO_ANSWER
CONTROL_REASONS = ("none", "unknown", "monitor", "internal")

# -- names


def test_every_row_of_lifecycle_is_an_event_that_libvirt_has() -> None:
    """A misspelt row of core.lifecycle would never match."""
    for event, detail in lifecycle.EVENTS:
        assert hasattr(libvirt, f"VIR_DOMAIN_EVENT_{event.upper()}")
        assert detail == "*" or hasattr(libvirt, f"VIR_DOMAIN_EVENT_{event.upper()}_{detail.upper()}")
    newer = {("paused", "api_error")}  # libvirt 10.1; what we build against may be older
    for state, reason in lifecycle.STATES.keys() - newer:
        assert hasattr(libvirt, f"VIR_DOMAIN_{state.upper()}")
        assert reason == "*" or hasattr(libvirt, f"VIR_DOMAIN_{state.upper()}_{reason.upper()}")


def test_everything_that_libvirt_may_say_has_its_own_row() -> None:
    """What a new libvirt-python knows is decided by somebody, and does not fall back to "*" unseen."""
    kinds = {kind for kind, _ in lifecycle.EVENTS}
    said = {
        (kind, detail) for kind in kinds for detail in constants.numbered(f"VIR_DOMAIN_EVENT_{kind.upper()}_").values()
    }
    assert said - lifecycle.EVENTS.keys() == set()
    states = {name for name, _ in lifecycle.STATES}
    met = {
        constants.state(getattr(libvirt, f"VIR_DOMAIN_{name.upper()}"), reason)
        for name in states
        for reason in range(40)
    }
    assert met - lifecycle.STATES.keys() == set()
    assert {
        *constants.numbered("VIR_DOMAIN_JOB_OPERATION_").values(),
        constants.operation(999),
    } == lifecycle.JOBS.keys()


#: What the names of an enumerator begin with -> its table, and what else begins so.
SPOKEN_OF: dict[str, tuple[Iterable[str], str]] = {
    "VIR_ERR_": (spoken_of.ERRORS, "none warning error"),  # these are how bad an error is
    "VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_": ({state for state, _ in spoken_of.PORT_EVENTS}, ""),
    "VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_REASON_": ({reason for _, reason in spoken_of.PORT_EVENTS}, ""),
    "VIR_CONNECT_DOMAIN_EVENT_CHANNEL_LIFECYCLE_STATE_": ({state for state, _ in spoken_of.PORT_EVENTS}, ""),
    "VIR_CONNECT_DOMAIN_EVENT_CHANNEL_LIFECYCLE_REASON_": ({reason for _, reason in spoken_of.PORT_EVENTS}, ""),
    "VIR_CONNECT_CLOSE_REASON_": (spoken_of.CLOSED, ""),
    "VIR_DOMAIN_CONTROL_": (
        spoken_of.CONTROL,
        "error_reason_none error_reason_unknown error_reason_monitor error_reason_internal",
    ),
    "VIR_DOMAIN_CONTROL_ERROR_REASON_": (spoken_of.CONTROL_ERRORS, ""),
    "VIR_DOMAIN_EVENT_IO_ERROR_": (spoken_of.IO_ERRORS, ""),
    "VIR_DOMAIN_EVENT_WATCHDOG_": (spoken_of.WATCHDOG, ""),
    "VIR_DOMAIN_EVENT_MEMORY_FAILURE_RECIPIENT_": ({who for who, _ in spoken_of.MEMORY_FAILURES}, ""),
    "VIR_DOMAIN_EVENT_MEMORY_FAILURE_ACTION_": ({action for _, action in spoken_of.MEMORY_FAILURES}, ""),
    "VIR_DOMAIN_JOB_": (
        spoken_of.JOBS_ON,
        " ".join(["stats_completed", "stats_keep_completed", *(f"operation_{name}" for name in lifecycle.JOBS)]),
    ),
    "VIR_DOMAIN_EVENT_ID_": ({name.lower() for name in {*spoken_of.NOT_HEARD, *EVENTS}}, ""),
}


@pytest.mark.parametrize("prefix", SPOKEN_OF)
def test_whoever_libvirt_speaks_of_has_a_row(prefix: str) -> None:
    """What a new libvirt-python knows is decided by somebody: until then, it is nobody's act."""
    table, others = SPOKEN_OF[prefix]
    known = {
        name.removeprefix(prefix).lower()
        for name, value in vars(libvirt).items()
        if name.startswith(prefix) and isinstance(value, int) and not name.endswith("_LAST")
    }
    assert known - {*table, *others.split()} == set()
    assert known or "CHANNEL" in prefix, "a misspelt prefix would find nothing"


def test_nobody_is_spoken_of_twice() -> None:
    """Each code has one row, and each event is heard or not."""
    codes = [code for codes in spoken_of._CODES.values() for code in codes.split()]
    assert len(codes) == len(set(codes))
    assert not spoken_of.NOT_HEARD.keys() & EVENTS.keys()


def test_the_states_of_all_ports_have_the_same_numbers() -> None:
    """One table is for an agent's and for any channel's events, as libvirt 12.4 and later have them."""
    for name, value in vars(libvirt).items():
        if "DOMAIN_EVENT_CHANNEL_LIFECYCLE_" in name:
            assert getattr(libvirt, name.replace("CHANNEL_LIFECYCLE", "AGENT_LIFECYCLE"), value) == value


def test_every_number_that_libvirt_may_send_has_one_name() -> None:
    """Round trip of all constants: number -> names -> the same constant."""
    events = [name for name in dir(libvirt) if name.startswith("VIR_DOMAIN_EVENT_")]
    kinds = ("DEFINED", "UNDEFINED", "STARTED", "SUSPENDED", "RESUMED", "STOPPED", "SHUTDOWN", "PMSUSPENDED", "CRASHED")
    for kind in kinds:
        for name in events:
            if name.startswith(f"VIR_DOMAIN_EVENT_{kind}_") and not name.endswith("_LAST"):
                pair = constants.lifecycle(getattr(libvirt, f"VIR_DOMAIN_EVENT_{kind}"), getattr(libvirt, name))
                assert "_".join(("VIR_DOMAIN_EVENT", *pair)).upper() == name
    for kind in ("NOSTATE", "RUNNING", "BLOCKED", "PAUSED", "SHUTDOWN", "SHUTOFF", "CRASHED", "PMSUSPENDED"):
        state = getattr(libvirt, f"VIR_DOMAIN_{kind}")
        for reason in range(20):
            found, detail = constants.state(state, reason)
            assert found == kind.lower()
            assert detail == "*" or getattr(libvirt, f"VIR_DOMAIN_{kind}_{detail.upper()}") == reason
    assert constants.state(libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR) == ("paused", "ioerror")
    assert constants.state(libvirt.VIR_DOMAIN_SHUTDOWN, 0) == ("shutdown", "unknown")


def test_unknown_numbers_fall_back_to_the_general_row() -> None:
    """A newer libvirt invents details, states and actions."""
    assert constants.lifecycle(libvirt.VIR_DOMAIN_EVENT_STOPPED, 99) == ("stopped", "*")
    assert lifecycle.event_of(*constants.lifecycle(99, 0)) is None
    assert constants.state(99, 0) == ("nostate", "unknown")
    assert (constants.watchdog(99), constants.operation(99), constants.control(99)) == ("*", "unknown", "job")


# -- events


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("LIFECYCLE", (5, 5), Told(Stopped(Exit.FAILED, "failed"), changed=True)),
        ("LIFECYCLE", (5, 77), Told(Stopped(Exit.UNKNOWN, UNEXPLAINED), changed=True)),
        ("LIFECYCLE", (2, 0), Told(Booted(), changed=True)),
        ("LIFECYCLE", (0, 1), Told(None, changed=True)),
        ("REBOOT", (), Told(Booted())),
        ("AGENT_LIFECYCLE", (1, 2), Told(PortChanged(True))),
        ("AGENT_LIFECYCLE", (2, 2), Told(PortChanged(False, Channel.AGENT))),
        # Of the domain, of nobody known, and what a newer libvirt invents: the live XML tells.
        ("AGENT_LIFECYCLE", (2, 1), Told(changed=True)),
        ("AGENT_LIFECYCLE", (1, 1), Told(changed=True)),
        ("AGENT_LIFECYCLE", (2, 0), Told(changed=True)),
        ("AGENT_LIFECYCLE", (2, 77), Told(changed=True)),
        ("AGENT_LIFECYCLE", (77, 2), Told(changed=True)),
        ("CHANNEL_LIFECYCLE", ("org.openstack.vmhb.0", 2, 2), Told(PortChanged(False, Channel.APPLICATION))),
        ("CHANNEL_LIFECYCLE", ("org.openstack.vmhb.0", 2, 1), Told(changed=True)),
        ("CHANNEL_LIFECYCLE", ("org.example.0", 2, 2), Told(changed=True)),
        ("CHANNEL_LIFECYCLE", (1, 0), Told(changed=True)),
        ("METADATA_CHANGE", (2, STATE_NAMESPACE), Told()),
        ("METADATA_CHANGE", (2, "urn:openstack:vmhb:1"), Told(changed=True)),
        ("METADATA_CHANGE", (0, None), Told(changed=True)),
        ("JOB_COMPLETED", ({},), Told(Unsilenced("job"))),
        ("IO_ERROR_REASON", ("/disk", "virtio0", 1, "enospc"), Told(Stuck(Cause.PAUSED_IO_ERROR))),
        ("IO_ERROR_REASON", ("/disk", "virtio0", 2, "eio"), Told()),
        ("IO_ERROR_REASON", ("/disk", "virtio0", 0, "eio"), Told()),
        ("IO_ERROR_REASON", ("/disk", "virtio0", 77, "eio"), Told()),
        ("WATCHDOG", (2,), Told(WatchdogFired("reset"))),
        ("MEMORY_FAILURE", (1, 3, 0), Told(MemoryFailed("guest", "reset"))),
        ("MEMORY_FAILURE", (0, 2, 1), Told(MemoryFailed("hypervisor", "fatal", required=True))),
        ("MEMORY_FAILURE", (1, 1, 3), Told(MemoryFailed("guest", "inject", required=True, recursive=True))),
        ("MEMORY_FAILURE", (1, 0, 6), Told(MemoryFailed("guest", "ignore", recursive=True))),
        ("MEMORY_FAILURE", (77, 99, 64), Told(MemoryFailed("*", "*"))),
        ("CONTROL_ERROR", (), Told(changed=True)),
        ("DEVICE_ADDED", ("channel3",), Told(changed=True)),
        ("DEVICE_REMOVED", ("channel3",), Told(changed=True)),
    ],
)
def test_what_libvirts_events_say(name: str, arguments: tuple[Any, ...], told: Told) -> None:
    """One row per kind of event."""
    assert EVENTS[name](*arguments) == told


def test_a_pass_of_a_migration_is_a_silence_that_ends_by_itself() -> None:
    """QEMU may fail to say that the migration ended."""
    event = EVENTS["MIGRATION_ITERATION"](1).event
    assert isinstance(event, Silenced) and event.key == "job"
    assert event.until is not None and 0 < event.until - time.monotonic() <= JOB_BELIEVED


def test_qemus_port_events_are_for_the_application_channel() -> None:
    """libvirt tells of the agent's itself; a domain that was never described is described first."""
    channels = {"channel0": Channel.AGENT, "channel1": Channel.APPLICATION}
    assert port_changed('{"open": true, "id": "channel1"}', channels) == Told(PortChanged(True, Channel.APPLICATION))
    assert port_changed('{"open": true, "id": "channel0"}', channels) == Told()
    assert port_changed('{"open": true, "id": "channel7"}', channels) == Told()
    assert port_changed(None, {}) == Told()
    assert port_changed('{"open": true, "id": "channel1"}', None) == Told(changed=True)


def test_every_memory_failure_has_a_row() -> None:
    """Each recipient with each action; the flags are numbered as libvirt numbers them."""
    table = spoken_of.MEMORY_FAILURES
    assert len(table) == len({who for who, _ in table}) * len({action for _, action in table})
    flags = (libvirt.VIR_DOMAIN_MEMORY_FAILURE_ACTION_REQUIRED, libvirt.VIR_DOMAIN_MEMORY_FAILURE_RECURSIVE)
    assert [constants.memory_failure(0, 0, flag)[2:] for flag in flags] == [(True, False), (False, True)]


def test_a_libvirt_that_is_older_than_an_event_is_gone_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Said, so that whoever waits for memory failures to be told knows; everything else is heard."""
    monkeypatch.delattr(libvirt, "VIR_DOMAIN_EVENT_ID_MEMORY_FAILURE")
    heard: list[int] = []
    connection = SimpleNamespace(subscribe=lambda number, _callback: heard.append(number), raw=None)
    with caplog.at_level("INFO"):
        event_map.subscribe(cast(Any, connection), lambda *_: None, lambda _uuid: None)
    assert "knows no MEMORY_FAILURE events" in caplog.text
    assert libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE in heard and libvirt.VIR_DOMAIN_EVENT_ID_WATCHDOG in heard


# -- feed


def test_what_happens_while_the_domains_are_listed_leaves_after_the_list() -> None:
    """Else the list, read earlier, would take back what happened since."""
    out: list[Report] = []
    feed = Feed(out.append)
    feed.tell(A, Paused("paused"), True)
    assert out == []
    feed.begin([seen(A)])
    assert out == [HypervisorUp((seen(A),)), Happened(A, Paused("paused"))]
    assert feed.next_due(0) == A


def test_a_description_never_overtakes_the_event_that_outdates_it() -> None:
    """It was read before the event; the event makes the domain due again."""
    out: list[Report] = []
    feed = Feed(out.append)
    feed.begin([])
    feed.tell(A, None, True)
    feed.tell(B, None, True)
    feed.tell(A, None, True)
    assert (feed.next_due(0), feed.next_due(0), feed.next_due(0)) == (A, B, None)
    feed.tell(A, Resumed(), True)
    feed.describe(seen(A, "paused"))
    feed.describe(seen(B))
    assert out[1:] == [Happened(A, Resumed()), seen(B)]
    assert feed.next_due(0) == A
    feed.describe(seen(A))
    assert out[-1] == seen(A)


def test_an_event_outdates_the_description_that_is_being_read() -> None:
    """Also one that changes nothing in it but a port: that description is read again, and only that one."""
    out: list[Report] = []
    feed = Feed(out.append)
    feed.begin([])
    feed.tell(A, None, True)
    assert feed.next_due(0) == A
    feed.tell(A, PortChanged(False), False)
    feed.tell(B, PortChanged(False), False)
    feed.describe(seen(A))
    assert out[1:] == [Happened(A, PortChanged(False)), Happened(B, PortChanged(False))]
    assert feed.next_due(0) == A
    feed.describe(seen(A))
    assert out[3:] == [seen(A)]
    feed.tell(A, PortChanged(True), False)
    assert feed.next_due(0) is None


def test_the_end_is_told_once_and_nothing_after_it() -> None:
    """The first reason counts; a connection that never was up has nothing to tell."""
    out: list[Report] = []
    feed = Feed(out.append)
    feed.begin([])
    feed.heard(1.5)
    feed.lose("first")
    feed.lose("second")
    feed.tell(A, Resumed(), True)
    feed.describe(seen(A))
    feed.heard(2.5)
    assert out == [HypervisorUp(()), HypervisorHeard(1.5), HypervisorDown("first")]
    with pytest.raises(Lost, match="first"):
        feed.next_due(0)

    early = Feed(out.append)
    early.lose("")
    with pytest.raises(Lost):
        early.begin([])
    assert len(out) == 3 and early.lost and not early.begun


# -- pool


def sure() -> bool:
    """Its QEMU goes on."""
    return True


class Work:
    """Tasks that run until they are let go."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.why = ""  # the last was refused
        self._gates: dict[str, threading.Event] = {}
        self._changed = threading.Condition()

    def task(self, domain: str, name: str, goes_on: bool = True) -> Task:
        gate = self._gates[name] = threading.Event()

        def run() -> Callable[[], None]:
            self.note(f"{name} runs")
            gate.wait(10)
            return lambda: self.note(f"{name} ends")

        def refuse(why: str) -> None:
            self.why = why
            self.note(f"{name} refused")

        return Task(domain, run, refuse, lambda: goes_on)

    def note(self, line: str) -> None:
        with self._changed:
            self.log.append(line)
            self._changed.notify_all()

    def let_go(self, name: str) -> None:
        self._gates[name].set()

    def wait(self, line: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: line in self.log, 5), self.log


def test_one_task_per_domain_and_so_many_in_all_and_the_rest_refused() -> None:
    """Nothing waits for other domains' calls; behind a domain's own, one question waits and the newer one counts."""
    work, pool = Work(), Pool(2, "test", 2)
    pool.start(work.task(A, "a1"))
    work.wait("a1 runs")
    pool.start(work.task(A, "a2"))
    pool.start(work.task(A, "a3"))
    assert work.log == ["a1 runs", "a2 refused"]
    pool.start(work.task(B, "b1"))
    work.wait("b1 runs")
    pool.start(work.task("c", "c1"))
    assert work.log[-1] == "c1 refused"
    for name in ("a1", "b1", "a3"):
        work.let_go(name)
        work.wait(f"{name} ends")
    pool.close()


def test_domains_that_are_not_seen_to_go_on_have_few_places_between_them() -> None:
    """However many hang: the others have the rest, and whoever waits for its turn gets it when a place is free."""
    work, pool = Work(), Pool(3, "test", 2)
    for name in ("a", "b"):
        pool.start(work.task(name, name, goes_on=False))
        work.wait(f"{name} runs")
    pool.start(work.task("c", "c", goes_on=False))
    assert work.log[-1] == "c refused"
    assert "no free place" in work.why
    pool.start_latest(work.task("d", "d", goes_on=False), "period")
    pool.start_latest(work.task("e", "e1"), "period")
    work.wait("e1 runs")
    pool.start_latest(work.task("f", "f"), "period")
    assert "d runs" not in work.log
    work.let_go("e1")
    work.wait("f runs")
    assert "d runs" not in work.log
    work.let_go("a")
    work.wait("d runs")
    for name in ("b", "d", "f"):
        work.let_go(name)
        work.wait(f"{name} ends")
    pool.close()


def test_whoever_is_told_may_ask_the_next_question_at_once() -> None:
    """The domain is free, and so is the thread, before the answer is told."""
    work, pool = Work(), Pool(1, "test", 1)
    left = list(range(200))
    over = threading.Event()

    def ask() -> None:
        left.pop()
        pool.start(Task(str(len(left)), lambda: ask if left else over.set, work.note, sure))

    ask()
    assert over.wait(10) and not work.log
    pool.close()


def test_of_what_waits_for_its_turn_the_latest_of_a_kind_wins() -> None:
    """State to be written, a balloon period to be put back: done after what hangs now, once."""
    work, pool = Work(), Pool(1, "test", 1)
    pool.start_latest(work.task(A, "first"), "period")
    work.wait("first runs")
    for name in ("second", "third"):
        pool.start_latest(work.task(A, name), "period")
    pool.start_latest(work.task(A, "state"), "state")
    pool.start_latest(work.task(B, "other"), "period")
    assert work.log == ["first runs", "second refused"]
    for name in ("first", "third", "state", "other"):
        work.let_go(name)
    for name in ("third", "state", "other"):
        work.wait(f"{name} ends")
    pool.close()
    pool.start(work.task(A, "late"))
    assert work.log[-1] == "late refused"
    pool.start_latest(work.task(A, "later"), "period")
    assert "later runs" not in work.log


def test_a_question_goes_before_what_changes_a_domain() -> None:
    """A change may wait half a minute for a job of libvirt's; the question whether that job is on need not."""
    work, pool = Work(), Pool(1, "test", 1)
    pool.start_latest(work.task(A, "state"), "state")
    work.wait("state runs")
    pool.start_latest(work.task(A, "period"), "period")
    pool.start(work.task(A, "job"))
    work.let_go("state")
    work.wait("job runs")
    assert "period runs" not in work.log
    for name in ("job", "period"):
        work.let_go(name)
        work.wait(f"{name} ends")
    pool.close()


def test_a_task_that_breaks_does_not_take_its_thread_along() -> None:
    """The next one is done all the same."""
    work, pool = Work(), Pool(1, "test", 1)

    def broken() -> Callable[[], None]:
        raise RuntimeError("a bug")

    pool.start(Task(A, broken, lambda why: None, sure))
    task = work.task(B, "next")
    work.let_go("next")
    pool.start_latest(task, "kind")
    work.wait("next ends")
    pool.close()


# -- connections for one call each


def test_no_two_calls_share_a_connection() -> None:
    """libvirt's client makes one wait for the other's answer now and then."""
    connections = [Connection("test:///default", lambda reason: None) for _ in range(2)]
    lines = Lines(connections)
    with lines.line(0) as first:
        with lines.line(0) as second, pytest.raises(NoLine, match="2 calls"), lines.line(0.01):
            pass
        assert {id(first), id(second)} == {id(each) for each in connections}
        with lines.line(0) as again:
            assert again is second
    for connection in connections:
        connection.release()


# -- answers


def test_a_job_is_named_as_libvirt_names_it() -> None:
    """None when there is none."""
    assert job({"type": libvirt.VIR_DOMAIN_JOB_NONE}) == Job(None)
    assert job({}) == Job(None)
    operation = libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT
    assert job({"type": libvirt.VIR_DOMAIN_JOB_UNBOUNDED, "operation": operation}) == Job("migration_out")
    assert job({"type": libvirt.VIR_DOMAIN_JOB_UNBOUNDED}) == Job("unknown")
    for over in ("COMPLETED", "FAILED", "CANCELLED"):
        assert job({"type": getattr(libvirt, f"VIR_DOMAIN_JOB_{over}"), "operation": operation}) == Job(None)
    assert job({"type": 77, "operation": operation}) == Job("migration_out")


def test_an_error_of_libvirts_own_says_nothing_of_qemu() -> None:
    """Nor does one whose reason is not known."""
    reasons = {name: getattr(libvirt, f"VIR_DOMAIN_CONTROL_ERROR_REASON_{name.upper()}") for name in CONTROL_REASONS}
    assert control(libvirt.VIR_DOMAIN_CONTROL_ERROR, reasons["monitor"], 0) == Control("error", 0.0)
    for name in ("internal", "unknown", "none"):
        assert isinstance(control(libvirt.VIR_DOMAIN_CONTROL_ERROR, reasons[name], 0), Unavailable)
    assert isinstance(control(libvirt.VIR_DOMAIN_CONTROL_ERROR, 77, 0), Unavailable)
    assert control(libvirt.VIR_DOMAIN_CONTROL_OCCUPIED, 0, 1500) == Control("occupied", 1.5)


def test_why_a_connection_closed_is_said_in_words() -> None:
    """Whatever the reason is called."""
    assert constants.closed(libvirt.VIR_CONNECT_CLOSE_REASON_KEEPALIVE) == "libvirtd stopped answering"
    assert constants.closed(libvirt.VIR_CONNECT_CLOSE_REASON_EOF) == "libvirtd went away"
    assert constants.closed(77) == "the connection broke"


def test_vitals_are_sums_over_devices_and_none_where_there_are_none() -> None:
    """No block device and no network: io_requests is unknown, not 0."""
    statistics = {
        "balloon.last-update": 7,
        "vcpu.current": 2,
        "vcpu.maximum": 4,
        "vcpu.0.time": 100,
        "vcpu.0.delay": 3,
        "vcpu.2.time": 11,
        "vcpu.2.wait": 5,
        "block.count": 1,
        "block.0.rd.reqs": 1,
        "block.0.rd.times": 999,
        "block.0.wr.reqs": 2,
        "net.count": 1,
        "net.0.rx.pkts": 4,
        "net.0.tx.pkts": 8,
        "net.0.rx.bytes": 999,
    }
    assert vitals(statistics, 50.0) == Vitals(7, 111, 11, (Vcpu(100, 3), Vcpu(11)), 50.0)
    assert vitals({}, 50.0, 0.5).throttled == 0.5
    assert vitals({"block.count": 0}) == Vitals(None, None, None)


@pytest.mark.parametrize(
    "element",
    [
        "<vmhbs:state xmlns:vmhbs='urn:openstack:vmhb:state:1' a='1'><vmhbs:b/></vmhbs:state>",
        "<state xmlns='urn:openstack:vmhb:state:1' a='1'><b/></state>",
        "<state a='1'><b/></state>",
    ],
)
def test_libvirt_itself_declares_the_namespace(element: str) -> None:
    """It refuses an element that has done so already."""
    assert without_namespace(element) == '<state a="1"><b /></state>'


@pytest.mark.parametrize(
    ("code", "text", "elapsed", "meaning"),
    [
        (86, "Guest agent is not responding: QEMU guest agent is not connected", 0.001, Failure.UNCONNECTED),
        (86, "Guest agent is not responding: QEMU guest agent is not connected", 29.0, Failure.UNCONNECTED),
        (86, "Guest agent is not responding: Guest agent not available for now", 2.0, Failure.NO_ANSWER),
        (86, "guest agent didn't respond to synchronization command", 5.0, Failure.NO_ANSWER),
        (112, "Guest agent command timed out: guest agent didn't respond to command 'x' within '2' seconds", 2.0, NO),
        (86, "Guest agent disappeared while executing command", 1.9, Failure.UNCONNECTED),
        (86, "QEMU guest agent is not available due to an error", 0.0, Failure.GIVEN_UP),
        (1, "internal error: No complete agent response found in 10485760 bytes", 1.0, Failure.GIVEN_UP),
        (97, "guest agent replied with wrong id to guest-sync command: 3", 1.0, Failure.GARBLED),
        (1, "internal error: unable to execute QEMU agent command 'x': not found", 0.0, Failure.GARBLED),
        (68, "Timed out during operation: cannot acquire state change lock (held by agent=x)", 30.0, Failure.BUSY),
        (9, "cannot acquire state change lock due to max_queued limit", 0.0, Failure.BUSY),
        (55, "Requested operation is not valid: domain is not running", 0.0, Failure.UNREACHABLE),
        (74, "argument unsupported: QEMU guest agent is not configured", 0.0, Failure.UNREACHABLE),
        (42, "Domain not found", 0.0, Failure.UNREACHABLE),
        (1, "internal error: client socket is closed", 0.0, Failure.UNREACHABLE),
        (38, "Unable to write to agent: Broken pipe", 0.0, Failure.UNREACHABLE),
        (1, "internal error: Missing agent reply object", 2.0, Failure.UNREACHABLE),
        (1, "internal error: End of file from agent socket", 2.0, Failure.UNREACHABLE),
        (None, "virDomainQemuAgentCommand() failed", 0.0, Failure.UNREACHABLE),
        # What has no row is nobody's act, however long it took.
        (86, "Guest agent is not responding: the stars are not right", 0.0, Failure.UNKNOWN),
        (86, "Guest agent is not responding: the stars are not right", 2.0, Failure.UNKNOWN),
        (86, "Guest agent is not responding: the stars are not right", 5.005, Failure.UNKNOWN),
        (9999, "a code of the future", 2.0, Failure.UNKNOWN),
        (43, "Network not found", 2.0, Failure.UNKNOWN),
        # The domain's response time-out is 0: libvirt did not wait for the agent at all.
        (86, "Guest agent is not responding: Guest agent not available for now", 0.01, Failure.UNREACHABLE),
    ],
)
def test_what_an_error_of_the_agent_means(code: int | None, text: str, elapsed: float, meaning: Failure) -> None:
    """As libvirt 9 says it, and later ones."""
    assert failure(code, text, elapsed, 2) is meaning


def test_every_code_of_libvirts_is_a_skip_unless_it_is_the_agents() -> None:
    """Whatever its text is, it accuses nobody, and closes no port."""
    for name, said in spoken_of.ERRORS.items():
        number = getattr(libvirt, f"VIR_ERR_{name.upper()}", None)
        if number is not None:
            meaning = failure(number, "words of the future", 5.0, 5)
            assert (meaning in (Failure.NO_ANSWER, Failure.GARBLED)) == (said.whom is spoken_of.Whom.AGENT), name
            assert meaning is not Failure.CLOSED


@pytest.mark.parametrize("timeout", [1, 2, 4, 5, 6, 7, 10, 17])
def test_libvirts_own_time_out_is_the_guests_silence(timeout: int) -> None:
    """It resynchronises with an agent that was silent once, for 5 s, whatever was asked for: no closed port."""
    text = "Guest agent not available for now"
    assert failure(86, text, 5.005, timeout) is Failure.NO_ANSWER
    assert failure(86, text, min(timeout, 5) + 0.003, timeout) is Failure.NO_ANSWER


# -- libvirtd in other languages

GERMAN = {
    "Guest agent not available for now": "Gast-Agent zur Zeit nicht verfügbar",
    "QEMU guest agent is not connected": "QEMU-Gast-Agent ist nicht verbunden",
    "QEMU guest agent is not available due to an error": "QEMU-Gast-Agent ist wegen eines Fehlers nicht verfügbar",
}


def catalogue(folder: Path, language: str, words: dict[str, str]) -> None:
    """As msgfmt makes one."""
    pairs = sorted({"": "Content-Type: text/plain; charset=UTF-8\n", **words}.items())
    ids, texts = ([each[side].encode() for each in pairs] for side in (0, 1))
    tables, strings = b"", b""
    for column in (ids, texts):
        for word in column:
            tables += struct.pack("<II", len(word), 28 + 16 * len(pairs) + len(strings))
            strings += word + b"\0"
    head = struct.pack("<7I", 0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0)
    path = folder / language / "LC_MESSAGES"
    path.mkdir(parents=True)
    (path / "libvirt.mo").write_bytes(head + tables + strings)


def test_a_libvirtd_that_speaks_another_language_is_understood_by_its_catalogues(tmp_path: Path) -> None:
    """Those that libvirt installs on the same host, of all languages; a broken one costs that language."""
    catalogue(tmp_path, "de", GERMAN)
    (tmp_path / "xx" / "LC_MESSAGES").mkdir(parents=True)
    (tmp_path / "xx" / "LC_MESSAGES" / "libvirt.mo").write_bytes(b"not one")
    known = Translations([tmp_path, tmp_path / "nowhere"])
    for english, german in GERMAN.items():
        said = f"Gast-Agent antwortet nicht: {german}"
        assert failure(86, said, 5.0, 5, known) is failure(86, english, 5.0, 5) is not Failure.UNKNOWN
        assert failure(86, said, 5.0, 5, Translations([tmp_path / "nowhere"])) is Failure.UNKNOWN
    assert failure(86, "Gast-Agent antwortet nicht: die Sterne stehen schlecht", 5.0, 5, known) is Failure.UNKNOWN
    assert failure(1, f"Interner Fehler: {GERMAN[MESSAGES[0]]}", 5.0, 5, known) is Failure.UNREACHABLE


def test_each_text_that_must_be_understood_is_one_that_has_a_row() -> None:
    """Or to know it in other languages would be of no use."""
    assert all(spoken_of.known_text(message) for message in MESSAGES)


# -- processes


@pytest.mark.parametrize(
    ("uri", "folder"),
    [
        ("qemu:///system", "/run/libvirt"),
        ("qemu+unix:///system?socket=/x/run/libvirt-sock", "/x/run"),
        ("qemu+unix:///system?socket=/run/libvirt/virtqemud-sock&mode=direct", "/run/libvirt"),
        ("qemu+tls://elsewhere/system", None),
        ("qemu:///session", None),
        ("test:///default", None),
    ],
)
def test_where_the_pid_files_are(uri: str, folder: str | None) -> None:
    """Beside the socket; nowhere when libvirtd is on another host."""
    assert run_folder(uri) == (Path(folder) if folder else None)


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[tuple[str, Path, subprocess.Popen[bytes]]]:
    """Something with a domain's uuid on its command line, and its pid file."""
    domain = str(uuid.uuid4())
    (tmp_path / "qemu").mkdir()
    with subprocess.Popen(["sh", "-c", "sleep 60; true", "-uuid", domain]) as process:
        while domain.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes():
            time.sleep(0.01)  # not exec'd yet
        (tmp_path / "qemu" / "one.pid").write_text(f"{process.pid}\n")
        yield domain, tmp_path, process
        process.kill()


def test_a_process_is_dead_from_the_moment_it_ends(qemu: tuple[str, Path, subprocess.Popen[bytes]]) -> None:
    """Even while it waits to be reaped, and whatever its pid file says later."""
    domain, folder, process = qemu
    processes = Processes(folder)
    assert processes.alive(domain) is None
    boot = processes.describe(domain, "one", "1")
    assert processes.alive(domain) is True
    assert Processes(folder).describe(domain, "one", "7") == boot == processes.describe(domain, "one", "1")
    process.kill()
    deadline = time.monotonic() + 5
    while processes.alive(domain):
        assert time.monotonic() < deadline
    assert processes.alive(domain) is False
    (folder / "qemu" / "one.pid").unlink()
    (folder / "qemu" / "one.pid").write_text(str(os.getpid()))
    assert processes.describe(domain, "one", "1") != boot
    assert processes.alive(domain) is None  # a pid that is somebody else's now
    processes.keep(set())
    assert processes.alive(domain) is None


def test_an_end_is_told_in_the_moment_that_it_comes(qemu: tuple[str, Path, subprocess.Popen[bytes]]) -> None:
    """Once, though it stays so, and without being asked; not of one that is known to run no more."""
    domain, folder, process = qemu
    processes = Processes(folder)
    processes.describe(domain, "one", "1")
    told: list[str] = []
    processes.watch(told.append, 0.05)
    assert told == processes.ended() == []
    process.kill()
    begun = time.monotonic()
    processes.watch(told.append, 5.0)
    assert time.monotonic() - begun < 0.3
    processes.watch(told.append, 0.05)
    processes.describe(domain, "one", "1")
    processes.watch(told.append, 0.05)
    assert told == processes.ended() == [domain]
    processes.forget(domain)
    assert processes.ended() == []


def test_an_end_of_one_that_is_another_by_now_is_no_news(qemu: tuple[str, Path, subprocess.Popen[bytes]]) -> None:
    """Its domain was started again, or is not ours any more: what ended is nobody's QEMU."""
    domain, folder, process = qemu
    processes = Processes(folder)
    processes.describe(domain, "one", "1")
    held = processes._known[domain][1]  # somebody looks at it just now
    told: list[str] = []
    with subprocess.Popen(["sh", "-c", "sleep 60; true", "-uuid", domain]) as other:
        while domain.encode() not in Path(f"/proc/{other.pid}/cmdline").read_bytes():
            time.sleep(0.01)
        (folder / "qemu" / "one.pid").unlink()
        (folder / "qemu" / "one.pid").write_text(f"{other.pid}\n")
        processes.describe(domain, "one", "2")
        process.kill()
        process.wait()
        assert held is not None and not held.alive()
        processes.watch(told.append, 0.2)
        assert told == processes.ended() == []
        other.kill()
        processes.watch(told.append, 5.0)
    assert told == [domain]
    processes.watch(told.append, 0.05)
    assert told == [domain]


def test_the_ends_of_many_are_told_by_one_thread(tmp_path: Path) -> None:
    """Each in 0.3 s, and none of those that run on."""
    (tmp_path / "qemu").mkdir()
    processes, told = Processes(tmp_path), set[str]()
    names = {str(uuid.uuid4()): f"vm-{number}" for number in range(40)}
    running = {domain: subprocess.Popen(["sh", "-c", "sleep 60; true", "-uuid", domain]) for domain in names}
    try:
        for domain, name in names.items():
            while domain.encode() not in Path(f"/proc/{running[domain].pid}/cmdline").read_bytes():
                time.sleep(0.01)
            (tmp_path / "qemu" / f"{name}.pid").write_text(f"{running[domain].pid}\n")
            processes.describe(domain, name, "1")
        dead = set(list(names)[::2])
        for domain in dead:
            running[domain].kill()
        begun = time.monotonic()
        while told != dead:
            processes.watch(told.add, 0.1)
            assert time.monotonic() - begun < 5.0
        assert set(processes.ended()) == dead
    finally:
        for process in running.values():
            process.kill()
            process.wait()


@contextlib.contextmanager
def running(folder: Path, script: str) -> Iterator[tuple[str, Processes, subprocess.Popen[bytes]]]:
    """A program that passes for a domain's QEMU, and is described."""
    domain = str(uuid.uuid4())
    (folder / "qemu").mkdir()
    with subprocess.Popen([sys.executable, "-c", script, "-uuid", domain]) as process:
        try:
            while domain.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes():
                time.sleep(0.01)
            (folder / "qemu" / "one.pid").write_text(f"{process.pid}\n")
            processes = Processes(folder)
            assert processes.look(domain) is None
            assert processes.would_answer(domain) is None
            assert processes.throttled_seconds(domain) == UNSEEN
            processes.describe(domain, "one", "1")
            yield domain, processes, process
        finally:
            process.kill()


def found(processes: Processes, domain: str, what: Callable[[MainThread], bool]) -> tuple[float, MainThread]:
    """Look until its main thread is like this: the look that found it so."""
    deadline = time.monotonic() + 20
    while (seen_now := processes.look(domain)) is None or not what(seen_now[1]):
        assert time.monotonic() < deadline, seen_now
        time.sleep(0.02)
    return seen_now


def test_any_number_of_threads_may_ask_at_once(qemu: tuple[str, Path, subprocess.Popen[bytes]]) -> None:
    """Whether it lives: the one that waits for its end, the one that describes it, those that look at it."""
    domain, folder, _process = qemu
    processes = Processes(folder)
    processes.describe(domain, "one", "1")
    wrong: list[object] = []

    def ask() -> None:
        for _ in range(3000):
            try:
                wrong.extend([] if processes.alive(domain) is True else ["dead"])
            except RuntimeError as error:
                wrong.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_a_process_has_taken_is_told_while_it_lives(tmp_path: Path) -> None:
    """All of its threads' time, in seconds; nothing of one that has ended, or cannot be seen."""
    busy = "import threading\nthreading.Thread(target=lambda: all(iter(int, 1)), daemon=True).start()\nwhile True: pass"
    with running(tmp_path, busy) as (domain, processes, process):
        assert processes.throttled_seconds(domain) == "libvirt has made no cgroups for its CPU"
        first, _ = found(processes, domain, lambda main: True)
        deadline = time.monotonic() + 20
        while found(processes, domain, lambda main: True)[0] < first + 0.1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
        process.wait()
        assert processes.look(domain) is None
        assert processes.would_answer(domain) is None
        assert processes.throttled_seconds(domain) == UNSEEN


def test_a_main_thread_that_goes_on_and_one_that_is_stopped(tmp_path: Path) -> None:
    """Going to sleep again and again is what a main loop does; who is stopped does not."""
    with running(tmp_path, "import time\nwhile True: time.sleep(0.01)") as (domain, processes, process):
        first = found(processes, domain, lambda main: main.state == "S")[1]
        found(processes, domain, lambda main: main.slept > first.slept and not main.held_up)
        deadline = time.monotonic() + 20
        while processes.would_answer(domain) is not True:
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGSTOP)
        stopped = found(processes, domain, lambda main: main.stopped)[1]
        assert stopped.held_up
        assert processes.would_answer(domain) is False
        time.sleep(0.1)
        assert processes.look(domain) is not None
        assert found(processes, domain, lambda main: True)[1] == stopped
        process.send_signal(signal.SIGCONT)
        found(processes, domain, lambda main: main.slept > stopped.slept)
        while processes.would_answer(domain) is not True:
            assert time.monotonic() < deadline


#: A child that opens a pipe for which nobody is at the other end: vfork keeps its parent in an uninterruptible sleep.
VFORK = """
import os, sys
os.mkfifo(sys.argv[-1])
os.posix_spawn("/bin/true", ["true"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 5, sys.argv[-1], os.O_WRONLY, 0)])
"""


@pytest.mark.parametrize(
    ("script", "state", "held_up"),
    [
        ("import select\nselect.poll().poll()", "S", False),
        ("while True: pass", "R", False),
        (VFORK.replace("sys.argv[-1]", "'FIFO'"), "D", True),
        ("import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()", "S", True),
    ],
    ids=["idle", "busy", "uninterruptible", "deadlocked"],
)
def test_what_proves_that_a_main_thread_is_held_up(tmp_path: Path, script: str, state: str, held_up: bool) -> None:
    """Idle, and busy, are not; nor is any of them known to go on."""
    script = script.replace("FIFO", str(tmp_path / "fifo"))
    with running(tmp_path, script) as (domain, processes, _):
        first = found(processes, domain, lambda main: main.state == state and main.held_up is held_up)[1]
        assert (first.state, first.stopped) == (state, False)
        if state != "R":
            again = processes.look(domain)
            assert again is not None
            assert again[1] == first
            assert processes.would_answer(domain) is None or not held_up  # it may have gone on right before
        if state == "D":
            os.close(os.open(tmp_path / "fifo", os.O_RDONLY))


@pytest.mark.parametrize("content", ["", "not a pid", "4194305"])
def test_an_unreadable_process_is_neither_dead_nor_alive(tmp_path: Path, content: str) -> None:
    """Another pid namespace, a broken file."""
    (tmp_path / "qemu").mkdir()
    (tmp_path / "qemu" / "one.pid").write_text(content)
    processes = Processes(tmp_path)
    assert processes.describe(A, "one", "1")
    assert processes.alive(A) is None


def test_without_pid_files_the_domain_id_is_the_next_best(tmp_path: Path) -> None:
    """It changes with every start while libvirtd runs."""
    processes = Processes(None)
    assert processes.describe(A, "one", "1") == Processes(tmp_path).describe(A, "one", "1") != ""
    assert processes.describe(A, "one", "1") != processes.describe(A, "one", "2")
    assert processes.alive(A) is None


# -- libvirt's test driver


class Inbox:
    """What was posted."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self._more = threading.Condition()

    def post(self, report: Report) -> None:
        with self._more:
            self.reports.append(report)
            self._more.notify_all()

    def wait(self, kind: type[T], fits: Callable[[T], bool] = lambda _: True) -> T:
        def found() -> T | None:
            return next((it for it in self.reports if isinstance(it, kind) and fits(it)), None)

        with self._more:
            report = self._more.wait_for(found, 10)
        assert report is not None, (kind, self.reports[-5:])
        return report

    def happened(self, domain: str, event: Event) -> None:
        self.wait(Happened, lambda it: it == Happened(domain, event))


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def hypervisor(inbox: Inbox) -> Iterator[LibvirtHypervisor]:
    made = LibvirtHypervisor("test:///default")
    made.open(inbox.post)
    yield made
    made.close(5)


@pytest.fixture
def other(hypervisor: LibvirtHypervisor, inbox: Inbox) -> Any:
    """Somebody else's connection to the same libvirt."""
    inbox.wait(HypervisorUp)
    return libvirt.open("test:///default")


def test_a_domains_life(inbox: Inbox, hypervisor: LibvirtHypervisor, other: Any) -> None:
    """Listed, suspended, resumed, destroyed, started, undefined: each told, each followed by what is there now."""
    (listed,) = inbox.wait(HypervisorUp).domains
    assert (listed.state, listed.boot != "") == ("running", True)
    domain = other.lookupByUUIDString(listed.uuid)
    for deed, event, state in (
        (domain.suspend, Paused("paused"), "paused"),
        (domain.resume, Resumed(), "running"),
        (domain.destroy, Stopped(Exit.INTENT, "destroyed"), "shutoff"),
        (domain.create, Booted(), "running"),
    ):
        inbox.reports.clear()
        deed()
        inbox.happened(listed.uuid, event)
        now = inbox.wait(DomainSeen, partial(has_state, state))
        assert (now.boot == "") == (state == "shutoff")
    assert now.boot != listed.boot
    inbox.reports.clear()
    hypervisor.describe(listed.uuid)
    assert inbox.wait(DomainSeen) == now
    domain.destroy()
    domain.undefine()
    inbox.wait(DomainForgotten)
    inbox.reports.clear()
    hypervisor.describe(listed.uuid)
    assert inbox.wait(DomainForgotten).uuid == listed.uuid
    inbox.wait(HypervisorHeard)
    other.defineXML(listed.xml).create()  # all tests of this process share the driver's domains


@pytest.mark.parametrize("away", [False, True])
def test_the_end_of_a_qemu_is_told_before_libvirt_has_a_word_of_it(
    inbox: Inbox, other: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: bool
) -> None:
    """Within 0.3 s of it; and where libvirt was away just then, as soon as that is back and knows no better."""
    domain = other.lookupByName("test").UUIDString()
    (tmp_path / "qemu").mkdir()
    monkeypatch.setattr(adapter, "run_folder", lambda _uri: tmp_path)
    monkeypatch.setattr(adapter, "FIRST_RETRY", 0.2)
    with subprocess.Popen(["sh", "-c", "sleep 60; true", "-uuid", domain]) as process:
        while domain.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes():
            time.sleep(0.01)
        (tmp_path / "qemu" / "test.pid").write_text(f"{process.pid}\n")
        mine = Inbox()
        hypervisor = LibvirtHypervisor("test:///default")
        hypervisor.open(mine.post)
        mine.wait(HypervisorUp)
        if away:
            session = hypervisor._session
            assert session is not None
            session.feed.lose("it went away")
            mine.wait(HypervisorDown)
            mine.reports.clear()
        process.kill()
        begun = time.monotonic()
        mine.happened(domain, QemuEnded())
        assert away or time.monotonic() - begun < 0.3
        assert not away or isinstance(mine.reports[0], HypervisorUp)
        hypervisor.close(5)


def test_looks_that_this_libvirt_cannot_answer_are_unavailable(inbox: Inbox, hypervisor: LibvirtHypervisor) -> None:
    """Every look has an answer, be it that there is none."""
    domain = inbox.wait(HypervisorUp).domains[0].uuid
    hypervisor.look(domain, LookControl())
    inbox.happened(domain, Looked(LookControl(), Control("ok", 0.0)))
    hypervisor.look(domain, LookState())
    hypervisor.look(domain, LookJob())
    report = inbox.wait(Happened, lambda it: isinstance(it.event, Looked) and it.event.look == LookJob())
    assert isinstance(report.event, Looked) and isinstance(report.event.answer, Unavailable)
    report = inbox.wait(Happened, lambda it: isinstance(it.event, Looked) and it.event.look == LookState())
    assert isinstance(report.event, Looked) and isinstance(report.event.answer, State)
    assert report.event.answer.process_alive is None  # there is no process
    with pytest.raises(AgentError) as error:
        hypervisor.agent_command(domain, "{}", 1)
    assert error.value.failure is Failure.UNREACHABLE
    assert hypervisor.identity() is None  # the test driver has none


def test_a_domain_is_given_what_it_lacks_and_nothing_else(
    inbox: Inbox, hypervisor: LibvirtHypervisor, other: Any
) -> None:
    """A policy is written once, and told as a change; a refusal in libvirt's own words; the absent are no news."""
    domain = inbox.wait(HypervisorUp).domains[0].uuid
    raw = other.lookupByUUIDString(domain)

    def give(step: Step, which: str = domain) -> Provisioned:
        inbox.reports.clear()
        hypervisor.provision(which, step)
        return inbox.wait(Provisioned)

    try:
        write = WritePolicy(policy_element({"interval": "2"}, NOON), NOON)
        again = WritePolicy("<heartbeat interval='9'/>", NOON)
        assert give(write) == Provisioned(domain, write, True)
        assert "interval='2'" in inbox.wait(DomainSeen).xml.replace('"', "'")
        assert give(again) == Provisioned(domain, again, False)
        for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE):
            assert "urn:openstack:vmhb:1" in raw.XMLDesc(flags) and "interval='9'" not in raw.XMLDesc(flags)
        newer = NOON + timedelta(seconds=1)
        other_flavor = WritePolicy(policy_element({"interval": "7"}, newer), newer)
        assert give(other_flavor) == Provisioned(domain, other_flavor, True)
        assert give(write) == Provisioned(domain, write, False)
        for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE):
            (element,) = ElementTree.fromstring(raw.XMLDesc(flags)).iterfind("metadata/{urn:openstack:vmhb:1}heartbeat")
            assert element.get("interval") == "7"
        plug = give(PlugChannel())  # the test driver can't
        assert (plug.changed, plug.again) == (False, False) and plug.failure
        gone = str(uuid.uuid4())
        assert give(PlugChannel(), gone) == Provisioned(gone, PlugChannel(), False)
        raw.destroy()
        assert give(PlugChannel()) == Provisioned(domain, PlugChannel(), False)
    finally:
        if not raw.isActive():
            raw.create()
        raw.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, None, None, "urn:openstack:vmhb:1", 3)


def test_a_libvirt_that_is_not_there_is_told_once_and_waited_for(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not there at the start is normal. Looks and commands say so at once."""
    monkeypatch.setattr(adapter, "FIRST_RETRY", 0.02)
    hypervisor = LibvirtHypervisor("qemu+unix:///system?socket=/nowhere/libvirt-sock")
    hypervisor.open(inbox.post)
    assert "/nowhere" in inbox.wait(HypervisorDown).reason
    hypervisor.look(A, LookControl())
    inbox.happened(A, Looked(LookControl(), Unavailable("libvirt is not connected")))
    hypervisor.look(A, LookJob())
    inbox.happened(A, Looked(LookJob(), Unavailable("libvirt is not connected")))
    hypervisor.write_state(A, "<a/>")
    hypervisor.provision(A, PlugChannel())
    assert inbox.wait(Provisioned) == Provisioned(A, PlugChannel(), False, "libvirt is not connected", again=True)
    inbox.reports = [report for report in inbox.reports if not isinstance(report, Provisioned)]
    hypervisor.describe(A)
    with pytest.raises(AgentError, match="not connected"):
        hypervisor.agent_command(A, "{}", 1)
    time.sleep(0.2)
    assert hypervisor.identity() is None
    assert [report for report in inbox.reports if not isinstance(report, Happened)] == [inbox.wait(HypervisorDown)]
    begun = time.monotonic()
    hypervisor.close(5)
    assert time.monotonic() - begun < 1


def test_after_close_nothing_is_posted(inbox: Inbox, hypervisor: LibvirtHypervisor, other: Any) -> None:
    """Not the event of a domain, not the answer to a look, not that it is down."""
    domain = inbox.wait(HypervisorUp).domains[0].uuid
    hypervisor.close(5)
    said = len(inbox.reports)
    raw = other.lookupByUUIDString(domain)
    raw.suspend()
    raw.resume()
    hypervisor.look(domain, LookControl())
    hypervisor.look(domain, LookJob())
    time.sleep(0.3)
    assert len(inbox.reports) == said


def test_close_while_somebody_is_told() -> None:
    """Who is told that libvirt is here asks it whose it is, and it may have been frozen meanwhile."""
    told, thawed = threading.Event(), threading.Event()

    def post(_report: Report) -> None:
        told.set()
        thawed.wait()

    hypervisor = LibvirtHypervisor("test:///default")
    hypervisor.open(post)
    assert told.wait(10)
    begun = time.monotonic()
    hypervisor.close(0.2)
    assert time.monotonic() - begun < 5
    thawed.set()


def test_check_says_what_is_wrong_and_what_to_do() -> None:
    """The wrong driver, or none."""
    assert "TEST, not QEMU" in str(check("test:///default", 5))
    assert "libvirtd runs" in str(check("qemu+unix:///system?socket=/nowhere/libvirt-sock", 5))


class Raw:
    """A domain of libvirt's of which something cannot be read."""

    def __init__(self, uuid: str, xml: str | Exception = "<domain/>") -> None:
        self._uuid, self._xml = uuid, xml

    def UUIDString(self) -> str:  # libvirt's name
        return self._uuid

    def XMLDesc(self, _flags: int) -> str:  # as above
        if isinstance(self._xml, Exception):
            raise self._xml
        return self._xml

    def state(self) -> tuple[int, int]:
        return 1, 1


@pytest.mark.parametrize(
    "wrong",
    [ValueError("x"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), RuntimeError("\x1b[31m\n\u202e"), "<", ""],
    ids=repr,
)
def test_a_domain_that_cannot_be_read_costs_no_other(wrong: str | Exception, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it is: else the connection would be given up, and made anew, for ever, and nobody watched."""
    raws = [Raw("one"), Raw("two", wrong), Raw("three")]
    connection = SimpleNamespace(raw=SimpleNamespace(listAllDomains=lambda _flags: raws), alive=lambda: True)
    seen, unread = Domains(Processes(None)).all(cast(Connection, connection))
    assert [one.uuid for one in seen] == ["one", "three"]
    assert unread == ["two"]
    (said,) = [one.getMessage() for one in caplog.records if "left out for now" in one.getMessage()]
    assert said.isprintable()


def test_an_answer_that_cannot_be_told_costs_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    """It would be one less for everybody, until none is left."""
    pool, told = Pool(1, "test", 1), threading.Event()

    def bad() -> None:
        raise RuntimeError("a bug about one answer")

    for number in range(3):
        pool.start_latest(Task(f"bad {number}", lambda: bad, lambda why: None, lambda: True), "change")
    pool.start_latest(Task("good", lambda: told.set, lambda why: None, lambda: True), "change")
    assert told.wait(20)
    pool.close()
    assert caplog.text.count("could not be told") == 3


def test_whether_it_goes_on_cannot_be_seen() -> None:
    """Then it is not sure; and those that wait behind are not forgotten."""
    pool, told, go = Pool(1, "test", 1), threading.Event(), threading.Event()
    calls: list[str] = []

    def unseen() -> bool:
        calls.append("asked")
        if len(calls) > 1:
            raise OSError("gone")
        return True

    def first() -> Callable[[], None]:
        go.wait(20)
        return lambda: None

    pool.start(Task("first", first, lambda why: None, lambda: True))
    pool.start_latest(Task("odd", lambda: told.set, lambda why: None, unseen), "change")
    go.set()
    assert told.wait(20)
    pool.close()


def test_events_that_are_not_understood_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A guest can have some told as often as it likes."""

    def bad(*_arguments: Any) -> Told:
        raise RuntimeError("nobody thought of it")

    callback = event_map._callback(bad, lambda *_told: None)
    for _ in range(500):
        callback(None, Raw("one"), 1, None)
    assert 1 <= sum("was not understood" in one.getMessage() for one in caplog.records) <= 10
