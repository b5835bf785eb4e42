"""The libvirt adapter against a real libvirtd, QEMU and guest agent: what it reports, how soon, and what hangs when."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import libvirt
import libvirt_qemu
import pytest

from tests.conftest import Figure
from tests.lab import image, metadata
from tests.lab.guest import Guest
from tests.lab.node import Node
from tests.lab.processes import wait_until
from vmhb_common.model.policy import Channel
from vmhb_worker.adapters.libvirt import LibvirtHypervisor, check
from vmhb_worker.adapters.libvirt.process import UNSEEN
from vmhb_worker.core.events import (
    Answer,
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
    Look,
    LookControl,
    Looked,
    LookJob,
    LookProcess,
    LookState,
    LookVitals,
    Paused,
    PeriodSet,
    PortChanged,
    Process,
    Refused,
    Report,
    Resumed,
    SetBalloonPeriod,
    ShuttingDown,
    State,
    Stopped,
    Unavailable,
    Vitals,
)
from vmhb_worker.core.main_thread import MainThread
from vmhb_worker.interfaces import AgentError

PING = json.dumps({"execute": "guest-ping"})
STATE = "<vmhbs:state xmlns:vmhbs='urn:openstack:vmhb:state:1' established='%d'/>"
T = TypeVar("T")


class Inbox:
    """What the adapter posted, and when."""

    def __init__(self) -> None:
        self.reports: list[tuple[float, Report]] = []
        self._more = threading.Condition()

    def post(self, report: Report) -> None:
        with self._more:
            self.reports.append((time.monotonic(), report))
            self._more.notify_all()

    def wait(
        self, kind: type[T], fits: Callable[[T], bool] = lambda _: True, within: float = 10, since: float = 0.0
    ) -> tuple[float, T]:
        """The first such report after `since`, and when it came."""
        deadline = time.monotonic() + within
        looked_at = 0
        with self._more:
            while True:
                for when, report in self.reports[looked_at:]:
                    if when >= since and isinstance(report, kind) and fits(report):
                        return when, report
                looked_at = len(self.reports)
                if not self._more.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                    raise AssertionError(f"no such {kind.__name__} within {within} s; the last: {self.reports[-5:]}")

    def happened(self, guest: Guest, event: Event, since: float, within: float = 10) -> float:
        """When this event of this guest came."""
        return self.wait(Happened, lambda it: it == Happened(guest.uuid, event), within, since)[0]

    def seen(
        self, guest: Guest, since: float, fits: Callable[[DomainSeen], bool] = lambda _: True
    ) -> tuple[float, DomainSeen]:
        return self.wait(DomainSeen, lambda it: it.uuid == guest.uuid and fits(it), 10, since)

    def all(self, kind: type[T], since: float = 0.0) -> list[T]:
        with self._more:
            return [report for when, report in self.reports if when >= since and isinstance(report, kind)]


class Watch:
    """An adapter with its inbox."""

    def __init__(self, node: Node, **sizes: int) -> None:
        self.inbox = Inbox()
        self.hypervisor = LibvirtHypervisor(node.uri, **sizes)
        self.hypervisor.open(self.inbox.post)
        self.up = self.inbox.wait(HypervisorUp)[1]

    def look(self, guest: Guest, look: Look, within: float = 5) -> tuple[float, Answer]:
        """The answer, and how long it took."""
        asked = time.monotonic()
        self.hypervisor.look(guest.uuid, look)
        when, report = self.inbox.wait(
            Happened,
            lambda it: it.uuid == guest.uuid and isinstance(it.event, Looked) and it.event.look == look,
            within,
            asked,
        )
        assert isinstance(report.event, Looked)
        return when - asked, report.event.answer

    def heard(self) -> float:
        """When the newest answered question was asked."""
        return max((report.asked_at for report in self.inbox.all(HypervisorHeard)), default=0.0)

    def boot(self, guest: Guest) -> str:
        """Its boot token, as a fresh description has it."""
        now = time.monotonic()
        self.hypervisor.describe(guest.uuid)
        return self.inbox.seen(guest, now)[1].boot


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    image.build()
    with Node("hypervisor") as node:
        yield node


@pytest.fixture(scope="module")
def only(node: Node) -> Guest:
    """The guest of all these tests."""
    guest = Guest(node, "instance-00000001", metadata=[metadata.heartbeat(interval=1)], application=True)
    guest.define()
    return guest


@pytest.fixture
def guest(only: Guest) -> Guest:
    """One that runs, with both channels and a balloon, whatever the test before has left behind."""
    if only.state == "shut off":
        only.boot()
    return only


@pytest.fixture
def watch(node: Node) -> Iterator[Watch]:
    watch = Watch(node)
    yield watch
    begun = time.monotonic()
    watch.hypervisor.close(5)
    assert time.monotonic() - begun < 6


@pytest.fixture
def paused(node: Node) -> Iterator[Callable[[int], list[Guest]]]:
    """paused(n): n domains whose QEMUs run and whose guests never do: enough to have a monitor, and no load."""
    made: list[Guest] = []

    def make(number: int) -> list[Guest]:
        for count in range(number):
            guest = Guest(node, f"paused-{count}", memory=32)
            guest.define()
            node.virsh("start", guest.name, "--paused")
            made.append(guest)
        return made

    yield make
    for guest in made:
        guest.continue_qemu()
        node.virsh("destroy", guest.name, check=False)
        guest.undefine()


def main_thread(watch: Watch, guest: Guest) -> MainThread:
    """What its QEMU's does just now."""
    _, answer = watch.look(guest, LookProcess())
    assert isinstance(answer, Process), answer
    return answer.main


def stop_qemu(watch: Watch, guest: Guest) -> None:
    """Until it stands still: a thread that waits for a processor is stopped once it has one."""
    guest.stop_qemu()
    wait_until(lambda: main_thread(watch, guest).stopped, 5, "it stands still", every=0.01)


def failure_of(call: Callable[[], Any]) -> tuple[Failure, float]:
    """The failure that an agent command ends with, and how long it took."""
    begun = time.monotonic()
    with pytest.raises(AgentError) as caught:
        call()
    return caught.value.failure, time.monotonic() - begun


def is_unavailable(look: Look, report: Happened) -> bool:
    """Did this look end without an answer?"""
    event = report.event
    return isinstance(event, Looked) and event.look == look and isinstance(event.answer, Unavailable)


# -- what is told, and how soon


def test_connected_it_lists_all_domains(node: Node, guest: Guest, watch: Watch) -> None:
    """Running domains with their live XML and a boot token, defined ones with what they are defined as."""
    idle = Guest(node, "idle")
    idle.define()
    other = Watch(node)
    found = {seen.uuid: seen for seen in other.up.domains}
    assert (found[guest.uuid].state, found[guest.uuid].reason) == ("running", "booted")
    assert found[guest.uuid].boot and "<alias name='channel0'/>" in found[guest.uuid].xml
    assert (found[idle.uuid].state, found[idle.uuid].boot) == ("shutoff", "")
    assert other.hypervisor.identity() == node.uuid
    other.hypervisor.close(5)
    undefined = time.monotonic()
    idle.undefine()
    watch.inbox.wait(DomainForgotten, lambda it: it.uuid == idle.uuid, 5, undefined)


def test_what_happens_to_a_guest_is_told_at_once(guest: Guest, watch: Watch, figure: Figure) -> None:
    """Each event of a life, within a fraction of a second of its cause, with a new description where one is due."""
    inbox = watch.inbox

    def told(deed: Callable[[], float], *events: Event, described: bool = True) -> None:
        asked = time.monotonic()  # on a busy machine, the event may be here before we know that the guest has begun
        moment = deed()
        for event in events:
            when = inbox.happened(guest, event, asked)
            figure(f"event {type(event).__name__} ({deed.__name__})", max(0.0, when - moment), "s", 3)
        if described:
            inbox.seen(guest, asked)

    told(guest.suspend, Paused("paused"))
    told(guest.resume, Resumed())
    told(guest.reset, Booted(), PortChanged(False), described=False)
    inbox.happened(guest, PortChanged(True), guest.wait_ready() - 30, 30)
    guest.wait_agent()
    told(lambda: guest.kill_agent(restart=False), PortChanged(False), described=False)
    told(guest.allow_agent, PortChanged(True), described=False)

    def open_port() -> float:
        return guest.begin(
            "(exec 4<>/dev/virtio-ports/org.openstack.vmhb.0; exec sleep 3000) </dev/null >/dev/null 2>&1 &"
        )

    def close_port() -> float:
        return guest.begin("killall sleep")

    guest.run("for p in /sys/class/virtio-ports/*; do ln -sf /dev/${p##*/} /dev/virtio-ports/$(cat $p/name); done")
    told(open_port, PortChanged(True, Channel.APPLICATION), described=False)
    told(close_port, PortChanged(False, Channel.APPLICATION), described=False)

    before = watch.boot(guest)
    told(guest.kill_qemu, Stopped(Exit.FAILED, "failed"))
    told(guest.start, Booted())
    assert watch.boot(guest) not in ("", before)
    guest.wait_agent()
    told(guest.poweroff, ShuttingDown(), Stopped(Exit.INTENT, "shutdown"))
    assert watch.boot(guest) == ""
    told(guest.start, Booted())
    told(guest.destroy, Stopped(Exit.INTENT, "destroyed"))
    told(guest.start, Booted())
    guest.wait_agent()


def test_a_changed_description_is_told_and_our_own_writing_is_not(node: Node, guest: Guest, watch: Watch) -> None:
    """Metadata and devices; what we write into our own namespace is no news."""
    moment = time.monotonic()
    node.virsh("metadata", guest.name, "urn:somebody", "--live", "--config", "--key", "k", "--set", "<mark a='1'/>")
    watch.inbox.seen(guest, moment, lambda it: "urn:somebody" in it.xml)

    moment = time.monotonic()
    for number in range(3):
        watch.hypervisor.write_state(guest.uuid, STATE % number)
    written = 'established="2"'
    deadline = time.monotonic() + 5
    while not all(written in node.virsh("dumpxml", guest.name, *flag) for flag in ([], ["--inactive"])):
        assert time.monotonic() < deadline, "the state was not written, live and defined"
    assert not watch.inbox.all(DomainSeen, moment)

    moment = guest.plug_channel("org.example.0")
    watch.inbox.seen(guest, moment, lambda it: "org.example.0" in it.xml)
    moment = guest.unplug_channel("org.example.0")
    watch.inbox.seen(guest, moment, lambda it: "org.example.0" not in it.xml)


def test_looks_at_a_healthy_guest(guest: Guest, watch: Watch, figure: Figure) -> None:
    """Every look has its answer, and the balloon driver reports a second after it is told to."""
    assert watch.look(guest, LookControl())[1] == Control("ok", 0.0)
    assert watch.look(guest, LookState())[1] == State("running", "booted", True)
    assert watch.look(guest, LookJob())[1] == Job(None)
    _, before = watch.look(guest, LookVitals())
    assert isinstance(before, Vitals) and before.vcpu_time and before.balloon_updated is not None
    assert before.io_requests is None  # neither disk nor network: nothing to be said
    assert watch.look(guest, SetBalloonPeriod(1))[1] == PeriodSet()
    deadline = time.monotonic() + 10
    while True:
        _, after = watch.look(guest, LookVitals())
        assert isinstance(after, Vitals)
        if after.balloon_updated != before.balloon_updated:
            break
        assert time.monotonic() < deadline, "the balloon driver did not report"
        time.sleep(0.2)
    assert watch.look(guest, SetBalloonPeriod(10))[1] == PeriodSet()
    for look in (LookControl(), LookState(), LookJob(), LookVitals()):
        for _ in range(10):
            figure(f"look {type(look).__name__}", watch.look(guest, look)[0], "s", 2)


def test_agent_commands_and_their_failures(node: Node, guest: Guest, watch: Watch, figure: Figure) -> None:
    """An answer, an error, silence, a closed port, a busy agent, no agent: told apart."""
    ask = watch.hypervisor.agent_command
    uuid = guest.uuid
    for _ in range(20):
        begun = time.monotonic()
        assert json.loads(ask(uuid, PING, 2)) == {"return": {}}
        figure("agent command, healthy", time.monotonic() - begun, "s", 2)
    assert failure_of(lambda: ask(uuid, '{"execute": "no-such"}', 2))[0] is Failure.GARBLED

    guest.stop_agent()
    kind, took = failure_of(lambda: ask(uuid, PING, 2))
    assert kind is Failure.NO_ANSWER and took > 1.9
    kind, took = failure_of(lambda: ask(uuid, PING, 2))
    assert kind is Failure.NO_ANSWER and took < 7.5
    with ThreadPoolExecutor(1) as other:
        first = other.submit(lambda: failure_of(lambda: ask(uuid, PING, 2)))
        moment = time.monotonic()
        guest.kill_agent(restart=False)
        watch.inbox.happened(guest, PortChanged(False), moment)
        assert first.result(30)[0] is Failure.UNCONNECTED
    kind, took = failure_of(lambda: ask(uuid, PING, 2))
    assert kind is Failure.UNCONNECTED
    figure("agent command, port closed", took, "s", 1)
    guest.allow_agent()
    guest.wait_agent()
    guest.suspend()
    assert failure_of(lambda: ask(uuid, PING, 2))[0] is Failure.UNREACHABLE
    guest.resume()
    guest.wait_agent()

    bare = Guest(node, "no-agent", agent=False, memory=32)
    bare.define()
    assert failure_of(lambda: ask(bare.uuid, PING, 2))[0] is Failure.UNREACHABLE  # not running
    node.virsh("start", bare.name)
    assert failure_of(lambda: ask(bare.uuid, PING, 2))[0] is Failure.UNREACHABLE  # no agent configured
    bare.destroy()
    bare.undefine()
    assert failure_of(lambda: ask(bare.uuid, PING, 2))[0] is Failure.UNREACHABLE  # no such domain


# -- what hangs, and what goes on


def test_a_stopped_qemu_is_seen_and_asked_nothing(
    guest: Guest, watch: Watch, paused: Callable[[int], list[Guest]], figure: Figure
) -> None:
    """Whatever may wait for it is refused at once, so that no worker of libvirtd's is lost; not when it goes on."""
    hung = paused(2)
    slept = main_thread(watch, hung[0]).slept
    time.sleep(2)
    figure("main thread goes to sleep, vCPUs stopped", (main_thread(watch, hung[0]).slept - slept) / 2, "a second")
    for each in hung:
        before = main_thread(watch, each)
        assert not before.held_up
        stop_qemu(watch, each)
        for look in (LookVitals(), LookJob()):
            took, answer = watch.look(each, look)
            figure("refusal where QEMU stands still", took, "s", 0.5)
            assert isinstance(answer, Refused) and answer.stands_still, answer
        assert watch.look(each, LookControl())[1] == Control("ok", 0.0)
        first = main_thread(watch, each)
        time.sleep(0.5)
        assert main_thread(watch, each) == first
        each.continue_qemu()
        assert isinstance(watch.look(each, LookVitals())[1], Vitals)
        assert main_thread(watch, each).slept > first.slept
    slept = main_thread(watch, guest).slept
    time.sleep(2)
    figure("main thread goes to sleep, guest idle", (main_thread(watch, guest).slept - slept) / 2, "a second")


def test_a_hung_qemu_holds_up_nobody_else(
    guest: Guest, watch: Watch, paused: Callable[[int], list[Guest]], figure: Figure
) -> None:
    """Where QEMUs cannot be seen, four looks hang in four of them; the fifth domain is told so at once, and what never
    blocks does not, nor a QEMU that is seen to go on."""
    hung = paused(5)
    for each in hung:
        assert watch.look(each, LookState())[1] == State("paused", "user", True)
        each.stop_qemu()
    watch.hypervisor._processes.keep(set())  # as in another pid namespace
    watch.boot(guest)
    assert watch.look(hung[0], LookProcess())[1] == Unavailable(UNSEEN)
    for each in hung[:4]:
        watch.hypervisor.look(each.uuid, LookVitals())
    went_on = main_thread(watch, guest)
    while main_thread(watch, guest).slept == went_on.slept:
        time.sleep(0.05)
    for _ in range(20):
        took, answer = watch.look(guest, LookVitals())
        assert isinstance(answer, Vitals)
        figure("LookVitals beside 4 hung QEMUs", took, "s", 1)
    took, answer = watch.look(hung[4], LookVitals())
    assert isinstance(answer, Refused) and "no free place" in answer.why, answer
    figure("refusal beside 4 hung QEMUs", took, "s", 0.5)
    begun = time.monotonic()
    seconds: list[float] = []
    while not seconds or seconds[-1] < 2:
        took, answer = watch.look(hung[0], LookControl())
        figure("LookControl beside 4 hung QEMUs", took, "s", 1)
        assert isinstance(answer, Control) and answer.state == "occupied", answer
        seconds.append(answer.seconds)
        assert time.monotonic() < begun + 20
    assert seconds == sorted(seconds)
    took, answer = watch.look(hung[0], LookState())
    assert answer == State("paused", "user", None)
    assert json.loads(watch.hypervisor.agent_command(guest.uuid, PING, 2)) == {"return": {}}
    assert watch.heard() > time.monotonic() - 1

    watch.hypervisor.look(hung[0].uuid, SetBalloonPeriod(5))  # waits for its own domain to be free
    moment = time.monotonic()
    for each in hung:
        each.continue_qemu()
    watch.inbox.wait(
        Happened, lambda it: it == Happened(hung[0].uuid, Looked(SetBalloonPeriod(5), PeriodSet())), 10, moment
    )
    assert isinstance(watch.look(hung[4], LookVitals())[1], Vitals)


def test_a_killed_qemu_is_seen_before_libvirt_says_so(guest: Guest, watch: Watch, figure: Figure) -> None:
    """The process is gone at once; libvirt's event comes more than a second later."""
    moment = guest.kill_qemu()
    while True:
        _, answer = watch.look(guest, LookState())
        assert isinstance(answer, State)
        if answer.process_alive is False:
            figure("QEMU's death by LookState", time.monotonic() - moment, "s", 1)
            break
        assert time.monotonic() < moment + 5
    figure(
        "QEMU's death by libvirt's event",
        watch.inbox.happened(guest, Stopped(Exit.FAILED, "failed"), moment) - moment,
        "s",
        4,
    )
    guest.start()
    guest.wait_agent()


@pytest.mark.long
def test_a_frozen_libvirtd(node: Node, guest: Guest, watch: Watch, figure: Figure) -> None:
    """It stops being heard at once, is down within 20 s, and up again when it goes on."""
    boot = watch.boot(guest)
    moment = node.freeze()
    try:
        command = ThreadPoolExecutor(1).submit(
            lambda: failure_of(lambda: watch.hypervisor.agent_command(guest.uuid, PING, 2))
        )
        watch.hypervisor.look(guest.uuid, LookVitals())
        watch.hypervisor.look(guest.uuid, LookControl())
        begun = time.monotonic()
        sentence = check(node.uri, 1)
        assert sentence is not None and "did not answer" in sentence and time.monotonic() - begun < 2
        down, _ = watch.inbox.wait(HypervisorDown, within=25, since=moment)
        figure("frozen libvirtd until HypervisorDown", down - moment, "s", 21)
        assert watch.heard() < moment + 0.1
        assert command.result(10)[0] is Failure.UNREACHABLE
        for look in (LookVitals(), LookControl()):
            watch.inbox.wait(Happened, partial(is_unavailable, look), 10, moment)
    finally:
        thawed = node.thaw()
    up, report = watch.inbox.wait(HypervisorUp, within=25, since=thawed)
    figure("thawed libvirtd until HypervisorUp", up - thawed, "s", 7)
    assert {seen.uuid: seen.boot for seen in report.domains}[guest.uuid] == boot
    watch.inbox.wait(HypervisorHeard, since=up)
    assert len(watch.inbox.all(HypervisorDown)) == 1
    assert json.loads(watch.hypervisor.agent_command(guest.uuid, PING, 2)) == {"return": {}}


@pytest.mark.parametrize("kill", [pytest.param(False, marks=pytest.mark.long), True])
def test_a_restarted_libvirtd(node: Node, guest: Guest, watch: Watch, figure: Figure, kill: bool) -> None:
    """Down once, up once, the same lives as before, and everything works again."""
    boot = watch.boot(guest)
    moment = node.halt_libvirtd(kill=kill)
    down, _ = watch.inbox.wait(HypervisorDown, since=moment - 1)
    figure("stopped libvirtd until HypervisorDown", down - moment, "s", 2)
    assert failure_of(lambda: watch.hypervisor.agent_command(guest.uuid, PING, 2))[0] is Failure.UNREACHABLE
    assert isinstance(watch.look(guest, LookVitals())[1], Unavailable)
    assert isinstance(watch.look(guest, LookControl())[1], Unavailable)
    node.boot_libvirtd()
    answering = time.monotonic()
    up, report = watch.inbox.wait(HypervisorUp, since=moment, within=20)
    figure("restarted libvirtd until HypervisorUp", up - answering, "s", 6)
    found = {seen.uuid: seen for seen in report.domains}
    assert (found[guest.uuid].boot, found[guest.uuid].state) == (boot, "running")
    suspended = guest.suspend()
    watch.inbox.happened(guest, Paused("paused"), suspended)
    guest.resume()
    guest.wait_agent()
    assert watch.look(guest, LookState())[1] == State("running", "unpaused", True)
    assert json.loads(watch.hypervisor.agent_command(guest.uuid, PING, 2)) == {"return": {}}
    assert len(watch.inbox.all(HypervisorDown)) == 1 and len(watch.inbox.all(HypervisorUp)) == 2


def test_a_boot_token_is_one_life_of_one_qemu(node: Node, watch: Watch) -> None:
    """Kept by a restart of libvirtd and of the worker; new after a stop, even when libvirt counts from 1 again."""
    with Node("tokens") as apart:  # where nothing else runs, domain ids begin again
        guest = Guest(apart, "one")
        guest.define()
        apart.virsh("start", guest.name)
        first = Watch(apart)
        token = first.boot(guest)
        first.hypervisor.close(5)
        apart.restart_libvirtd()
        second = Watch(apart)
        assert second.boot(guest) == token != ""
        guest.destroy()
        apart.restart_libvirtd()
        second.inbox.wait(HypervisorDown)
        second.inbox.wait(HypervisorUp, lambda up: all(seen.boot == "" for seen in up.domains), 10)
        apart.virsh("start", guest.name)
        assert second.boot(guest) not in ("", token)
        assert apart.virsh("domid", guest.name).strip() == "1"
        second.hypervisor.close(5)


@pytest.mark.long
def test_exhausted_workers_are_not_taken_for_a_healthy_libvirtd(
    node: Node, guest: Guest, watch: Watch, figure: Figure
) -> None:
    """All ordinary workers wait for one hung agent: the canary falls silent, though `state` still answers."""
    guest.stop_agent()
    connections = [libvirt.open(node.uri) for _ in range(6)]

    def hang(connection: Any) -> None:
        with pytest.raises(libvirt.libvirtError):
            libvirt_qemu.qemuAgentCommand(connection.lookupByUUIDString(guest.uuid), PING, 5, 0)

    with ThreadPoolExecutor(24) as callers:
        for connection in connections:
            for _ in range(4):
                callers.submit(hang, connection)
        silent = time.monotonic() + 3
        while watch.heard() > time.monotonic() - 1.5:
            assert time.monotonic() < silent, "still heard while no ordinary call gets through"
            time.sleep(0.05)
        took, answer = watch.look(guest, LookState())
        assert answer == State("running", "unpaused", True) or isinstance(answer, State)
        figure("LookState while libvirtd's workers are taken", took, "s", 1)
        guest.continue_agent()
    watch.inbox.wait(HypervisorHeard, since=time.monotonic())
    assert not watch.inbox.all(HypervisorDown)
    guest.wait_agent()


@pytest.mark.long
def test_hung_agents_do_not_delay_a_healthy_one(node: Node, guest: Guest, watch: Watch, figure: Figure) -> None:
    """Seven of ten hung agents are being asked at any time, and the healthy one's answer comes as fast as ever."""
    hung = [Guest(node, f"hung-{number}") for number in range(10)]
    for each in hung:
        each.define()
        each.start()
    for each in hung:
        each.wait_agent(240)
        each.stop_agent()

    def healthy(times: int) -> list[float]:
        found = []
        for _ in range(times):
            begun = time.monotonic()
            watch.hypervisor.agent_command(guest.uuid, PING, 5)
            found.append(time.monotonic() - begun)
            time.sleep(0.02)
        return found

    alone = healthy(100)
    over = threading.Event()

    def keep_asking(each: Guest) -> None:
        while not over.is_set():
            assert failure_of(lambda: watch.hypervisor.agent_command(each.uuid, PING, 2))[0] is Failure.NO_ANSWER

    with ThreadPoolExecutor(10) as callers:
        asking = [callers.submit(keep_asking, each) for each in hung[:7]]
        time.sleep(0.5)
        beside = healthy(200)
        crowd = [
            callers.submit(failure_of, partial(watch.hypervisor.agent_command, each.uuid, PING, 2)) for each in hung[7:]
        ]
        kinds = {future.result(60)[0] for future in crowd}
        over.set()
        for future in asking:
            future.result(60)
    figure("healthy agent alone, median", statistics.median(alone), "s")
    figure("healthy agent beside 7 hung, median", statistics.median(beside), "s", 3 * statistics.median(alone) + 0.01)
    figure("healthy agent beside 7 hung, worst", max(beside), "s", 1)
    assert kinds <= {Failure.NO_ANSWER, Failure.UNREACHABLE}
    for each in hung:
        each.destroy()
        each.undefine()


# -- the end


@pytest.mark.long
def test_reconnecting_leaks_nothing(node: Node, watch: Watch) -> None:
    """After many lost connections there are as many open files and threads as after one."""

    def lose_it() -> tuple[int, int]:
        moment = time.monotonic()
        node.restart_libvirtd(kill=True)
        up, _ = watch.inbox.wait(HypervisorUp, since=moment, within=20)
        watch.inbox.wait(HypervisorHeard, since=up)
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    first = lose_it()
    for _ in range(4):
        last = lose_it()
    assert last[0] <= first[0] + 2 and last[1] <= first[1]


@pytest.mark.long
def test_close_returns_in_time_whatever_hangs(node: Node, watch: Watch, paused: Callable[[int], list[Guest]]) -> None:
    """With a QEMU and libvirtd frozen it still ends within its time, says nothing more, and the process can exit."""
    (hung,) = paused(1)
    hung.stop_qemu()
    watch.hypervisor.look(hung.uuid, LookVitals())
    program = (
        "import sys, time\n"
        "from vmhb_worker.adapters.libvirt import LibvirtHypervisor\n"
        "from vmhb_worker.core.events import *\n"
        "ups = []\n"
        "it = LibvirtHypervisor(sys.argv[1])\n"
        "it.open(lambda report: ups.append(report) if isinstance(report, HypervisorUp) else None)\n"
        "while not ups: time.sleep(0.05)\n"
        "it.look(sys.argv[2], LookVitals())\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "begun = time.monotonic()\n"
        "it.describe(sys.argv[2]); it.look(sys.argv[2], LookState())\n"
        "it.close(1)\n"
        "print(time.monotonic() - begun, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, node.uri, hung.uuid], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None and worker.stdin is not None
        assert worker.stdout.readline() == "ready\n"
        node.freeze()
        try:
            begun = time.monotonic()
            watch.hypervisor.close(1)
            assert time.monotonic() - begun < 1.5
            said = len(watch.inbox.reports)
            worker.stdin.write("\n")
            worker.stdin.flush()
            assert float(worker.stdout.readline()) < 1.5
            assert worker.wait(5) == 0
        finally:
            node.thaw()
            if worker.poll() is None:
                worker.send_signal(signal.SIGKILL)
    hung.continue_qemu()
    assert len(watch.inbox.reports) == said


def test_check_finds_fault_with_what_would_not_work(node: Node) -> None:
    """One sentence with the remedy for each; nothing to say about a libvirt that would do."""
    assert check(node.uri, 5) is None
    assert "read-only" in str(check(node.uri + "-ro", 5))
    assert "Cannot connect" in str(check("qemu+unix:///system?socket=/nowhere", 5))
    assert "TEST, not QEMU" in str(check("test:///default", 5))
