"""A witness is believed while it is fresh, and for what it can know: balloon, vCPU time, I/O."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest

from tests.unit.core.scenario import NEW, Guest, changed, lone, settled, spins, told
from vmhb_common.model.causes import Cause, Confidence
from vmhb_common.model.policy import Action, Channel
from vmhb_worker.core import events as ev
from vmhb_worker.core import protocol
from vmhb_worker.core.evidence import TABLE, Balloon, Evidence, Reading, System, Witness, example, unavailable
from vmhb_worker.core.guest_system import by_agent, by_name, by_osinfo_id
from vmhb_worker.core.instance_state import Timing
from vmhb_worker.core.suspicion import believed
from vmhb_worker.core.transitions import State
from vmhb_worker.core.verdict import Case, Recovery, Trigger, judge, recommend, starved
from vmhb_worker.core.witnesses import OtherChannel

FAST = {"interval": 1.0, "timeout": 1.0, "threshold": 3}
POLICIES = [{"interval": 10.0, "timeout": 5.0, "threshold": 3}, FAST]


def works(now: float) -> tuple[int, int]:
    """vCPU time (ns) and I/O of a kernel that lives."""
    return int(now * 3e8), int(now * 20)


# -- the table ---------------------------------------------------------------------------------------------------------


def test_every_line_of_the_table_says_what_it_is_worth() -> None:
    """Who says it, where it comes from, what it tells apart, how fresh, of which guests."""
    for name, line in TABLE.items():
        assert isinstance(line.by, Witness), name
        assert all((line.source, line.tells, line.fresh, line.guests)), name
    assert set(example()) == set(TABLE)


# -- the agent, where an application is judged -------------------------------------------------------------------------


def test_whoever_waits_for_no_answer_is_not_told_that_there_is_no_place_for_the_question() -> None:
    """What it said before counts; where it was asked, and waits for its turn, that is what is known."""
    agent = OtherChannel(present=True)
    agent.ask(10.0)
    agent.answered(True, "", 10.1)
    agent.no_place()
    assert agent.said == Reading(True, 10.1)
    agent.ask(20.0)
    agent.no_place()
    assert agent.said == unavailable("no free place: too many guests wait to be asked")
    assert not agent.pending


# -- how much a silent balloon proves ----------------------------------------------------------------------------------

SILENT = Evidence(balloon=Reading(Balloon.NO_ANSWER, 0.0))
FRESH = [Reading(True, 0.0), Reading(False, 0.0), unavailable("the clock was set")]
SYSTEMS = [Reading(system, 0.0) for system in System] + [unavailable("nobody said")]
STILL = {"vcpu": Reading(0.0, 0.0), "io": Reading(0, 0.0)}
SPINS = {"vcpu": Reading(1.0, 0.0), "io": Reading(0, 0.0)}
WORKS = {"vcpu": Reading(0.3, 0.0), "io": Reading(9, 0.0)}
NOT_COUNTED: dict[str, Reading] = {}


@pytest.mark.parametrize("sign", [STILL, SPINS, WORKS, NOT_COUNTED], ids=["still", "spins", "works", "not counted"])
@pytest.mark.parametrize(("fresh", "system"), list(product(FRESH, SYSTEMS)))
def test_what_a_silent_balloon_proves(fresh: Reading, system: Reading, sign: dict[str, Reading]) -> None:
    """Every system, every freshness, every second sign: has it a word, how sure is that, and is it recovered?"""
    unseen = unavailable("not counted")
    vcpu, io = sign.get("vcpu", unseen), sign.get("io", unseen)
    evidence = replace(SILENT, balloon_fresh=fresh, system=system, vcpu=vcpu, io=io)
    evidence = replace(evidence, balloon=believed(evidence))
    verdict = judge(Case(Trigger.SILENT, "agent", evidence))
    has_a_word = fresh.value is not False and system.value is not System.WINDOWS
    assert (verdict.cause is Cause.GUEST_HUNG) is has_a_word
    if not has_a_word:
        assert verdict.cause is Cause.GUEST_SILENT
        assert (verdict.confidence, verdict.recovery) == (Confidence.LOW, Recovery.IF_UNRESPONSIVE)
        return
    sure = system.value is System.LINUX and bool(fresh.value) and sign is not WORKS
    assert verdict.confidence is (Confidence.HIGH if sure else Confidence.MEDIUM)
    recovered = sure or sign in (STILL, SPINS)
    assert recommend(verdict, Action.RECOVER, False) == (("recover", None) if recovered else ("alarm", "evidence"))


def test_what_a_balloon_says_counts_whatever_runs_in_the_guest() -> None:
    """On Windows, too, a service that answers lives in a kernel that does."""
    answered = Evidence(balloon=Reading(Balloon.ANSWERED, 0.0), system=Reading(System.WINDOWS))
    assert believed(answered).value is Balloon.ANSWERED


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("left", [13.0, 60.0, 600.0])
def test_a_driver_that_had_left_is_no_witness(policy: dict[str, float], left: float) -> None:
    """Unloaded by the guest's root, or its service stopped: later the agent hangs, in a kernel that lives."""
    guest = settled(action=Action.RECOVER, **policy)
    guest.osinfo = {"id": "debian", "kernel-version": "#1 SMP"}
    guest.run(300.0)
    guest.balloon_until = guest.host.now
    guest.run(300.0 + left)
    guest.agent_stops()
    guest.run(1800.0)
    assert {fault.cause for fault in guest.raised} == {"guest_silent"}
    assert [line for line in told(guest) if "recover" in line] == []
    assert guest.raised[0].evidence["balloon_fresh"]["value"] is False


def test_a_clock_that_is_set_makes_it_unknown() -> None:
    """How old its last report is cannot be told: another sign is asked for, and who has none is an alarm."""
    for seconds, does, recovered in ((3600.0, spins, True), (-3600.0, works, False), (3600.0, works, False)):
        guest = settled(action=Action.RECOVER, **FAST)
        guest.run(203.0)
        guest.host.sets_clock(seconds)
        guest.does = does
        guest.kernel_dies()
        guest.run(240.0)
        assert guest.fault is not None
        assert (guest.fault.cause, guest.fault.confidence) == ("guest_hung", "medium")
        assert guest.fault.evidence["balloon_fresh"]["reason"] == "the host's clock was set since its balloon reported"
        assert (guest.fault.recommended_action == "recover") is recovered


def test_a_balloon_that_reports_only_when_asked_needs_a_second_sign() -> None:
    """Nova's mem_stats_period_seconds is 0: whether its driver had left before is not known."""
    guest = settled(action=Action.RECOVER, **FAST)
    guest.monitor.balloon_period = guest._period = 0
    guest.does = works
    guest.kernel_dies()
    guest.run(240.0)
    assert told(guest)[-1] == "updated guest_hung, withheld: evidence"
    guest.does = spins
    guest.run(400.0)
    assert told(guest)[-1] == "updated guest_hung, recover"


@pytest.mark.parametrize(("does", "recovered"), [(spins, True), (works, False)], ids=["spins", "works"])
def test_a_balloon_that_stood_still_with_its_guest_is_no_stale_one(
    does: Callable[[float], tuple[int, int]], recovered: bool
) -> None:
    """Paused for long, it answers once and dies: that its last report is old says nothing, and another sign decides."""
    guest = settled(action=Action.RECOVER, **FAST)
    guest.run(203.0)
    guest.is_paused()
    guest.run(400.0)
    guest.is_resumed()
    guest.run(403.0)
    guest.does = does
    guest.kernel_dies()
    guest.run(440.0)
    assert guest.fault is not None
    assert (guest.fault.cause, guest.fault.confidence) == ("guest_hung", "medium")
    assert "stood still" in guest.fault.evidence["balloon_fresh"]["reason"]
    assert (guest.fault.recommended_action == "recover") is recovered


def test_a_confidence_that_changes_is_told() -> None:
    """The same cause, surer by now: whoever acts by confidence hears of it."""
    guest = settled(action=Action.ALARM, **FAST)
    guest.does = works
    guest.kernel_dies()
    guest.run(130.0)
    assert guest.fault is not None
    assert guest.fault.confidence == "medium"
    guest.monitor.system.of_domain = System.LINUX
    guest.does = spins
    guest.run(240.0)
    assert guest.fault.confidence == "high"


# -- what runs in it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "system"),
    [
        *((name, System.LINUX) for name in ("linux", "Linux", "debian", "rhel", "ubuntu", "alpine", "cirros")),
        *((name, System.WINDOWS) for name in ("windows", "Windows", "win32", "win2k22")),
        *((name, System.OTHER) for name in ("freebsd", "openbsd7", "netbsd", "solaris", "darwin")),
        *((name, None) for name in ("", None, "  ", "unknown")),
    ],
)
def test_systems_by_their_names(name: str | None, system: System | None) -> None:
    """An image's property, or what a program says of its platform; nothing is taken for anything."""
    assert by_name(name) is system


@pytest.mark.parametrize(
    ("url", "system"),
    [
        ("http://debian.org/debian/12", System.LINUX),
        ("http://www.redhat.com/rhel/9.0", System.LINUX),
        ("http://microsoft.com/win/11", System.WINDOWS),
        ("http://freebsd.org/freebsd/14.0", System.OTHER),
        ("http://libosinfo.org/unknown", System.OTHER),
        ("", None),
        ("debian", None),
    ],
)
def test_systems_by_libosinfo(url: str, system: System | None) -> None:
    """As virt-install and others write it into a domain's metadata."""
    assert by_osinfo_id(url) is system


@pytest.mark.parametrize(
    ("reply", "system"),
    [
        ({"return": {"id": "debian", "kernel-version": "#1 SMP Debian 6.1"}}, System.LINUX),
        ({"return": {"kernel-version": "#2 SMP"}}, System.LINUX),
        ({"return": {"id": "mswindows", "kernel-version": "10.0"}}, System.WINDOWS),
        ({"return": {"id": "freebsd", "kernel-version": "FreeBSD 14"}}, System.OTHER),
        ({"return": {"id": "something"}}, None),
        ({"return": {}}, None),
        ({"return": []}, None),
        ({"error": {}}, None),
        (7, None),
    ],
)
def test_systems_by_the_agents_word(reply: object, system: System | None) -> None:
    """Whatever a guest says, it is taken for nothing that it is not."""
    assert by_agent(json.dumps(reply)) is system
    assert by_agent("{") is None


def test_an_agent_is_asked_once_what_runs_there() -> None:
    """It says so with its first answers, and after another boot anew."""
    guest = settled(**FAST)
    assert [e for _, e in guest.effects if isinstance(e, ev.AgentCommand)] != []  # refused, and not asked again
    asked = len(guest.effects)
    guest.osinfo = {"id": "debian", "kernel-version": "#1 SMP"}
    guest.run(150.0)
    assert [e for _, e in guest.effects[asked:] if isinstance(e, ev.AgentCommand)] == []
    guest.boots(5.0)
    guest.run(200.0)
    assert len([e for _, e in guest.effects[asked:] if isinstance(e, ev.AgentCommand)]) == 1
    assert guest.monitor.system.reading().value is System.LINUX


def test_an_application_says_what_it_runs_on() -> None:
    """In its hello; and what the domain says goes before."""
    guest = settled(channel=Channel.APPLICATION)
    guest.application.says(protocol.Hello(1, "web", system="linux"))
    assert guest.monitor.system.reading().value is System.LINUX
    guest.monitor.system.of_domain = System.WINDOWS
    assert guest.monitor.system.reading().value is System.WINDOWS


# -- asleep ------------------------------------------------------------------------------------------------------------


def falls_asleep(guest: Guest) -> None:
    """s2idle: its port is closed, its vCPUs stop, and no event is sent."""
    guest.kernel_dies()
    guest.application.hangs()
    guest.agent_exits()


@pytest.mark.parametrize("channel", list(Channel))
@pytest.mark.parametrize("policy", POLICIES)
def test_a_guest_that_sleeps_is_not_dead(policy: dict[str, float], channel: Channel) -> None:
    """An alarm of no weight, for as long as it sleeps; and over when it is back."""
    guest = settled(channel=channel, action=Action.RECOVER_UNRESPONSIVE, **policy)
    guest.monitor.has_other_channel(False)
    falls_asleep(guest)
    guest.run(1000.0)
    (fault,) = guest.raised
    assert guest.fault is not None
    assert (guest.fault.cause, guest.fault.severity, guest.fault.recommended_action) == ("asleep", "info", "alarm")
    assert [line for line in told(guest) if "recover" in line] == []
    guest.kernel_boots()
    guest.agent_starts()
    guest.application.goes_on()
    guest.run(1000.0 + 100.0)
    assert guest.fault is None, guest.transcript
    assert fault.fault_id == guest.raised[-1].fault_id


@pytest.mark.parametrize(
    ("happens", "cause"),
    [
        (lambda guest: setattr(guest, "does", spins), "guest_hung"),
        (lambda guest: guest.run(guest.host.now + 25.0), "guest_hung"),
        (lambda guest: None, "asleep"),
    ],
    ids=["spins", "its balloon had gone on", "still"],
)
def test_who_is_asleep_and_who_is_dead(happens: Callable[[Guest], None], cause: str) -> None:
    """Behind a port that is closed: a spinning vCPU, or a balloon that answered a period later, is death."""
    guest = settled(action=Action.RECOVER, **FAST)
    guest.agent_exits()
    happens(guest)
    guest.kernel_dies()
    guest.run(guest.host.now + 100.0)
    assert guest.fault is not None
    assert guest.fault.cause == cause


def test_where_it_is_not_known_whether_it_sleeps_it_is_not_recovered() -> None:
    """The host's clock was set: whether its balloon outlived its port cannot be told."""
    guest = settled(action=Action.RECOVER, **FAST)
    falls_asleep(guest)
    guest.host.sets_clock(60.0)
    guest.run(1000.0)
    assert guest.fault is not None
    assert (guest.fault.cause, guest.fault.recommended_action) == ("guest_hung", "alarm")
    assert [line for line in told(guest) if "recover" in line] == []


@pytest.mark.parametrize("slow", [0.005, 0.9, 3.0])
@pytest.mark.parametrize("probed", [0.0, 1.0, 3.0, 5.0])
def test_one_that_wakes_is_not_judged_by_its_sleep(slow: float, probed: float) -> None:
    """Its port is opened in the middle of a look, and its application takes its time to answer."""
    guest = settled(channel=Channel.APPLICATION, action=Action.RECOVER_UNRESPONSIVE, **FAST)
    guest.monitor.has_other_channel(False)
    falls_asleep(guest)
    guest.run(161.0 + probed)
    guest.kernel_boots()
    guest.agent_starts()
    guest.run(guest.host.now + slow)
    guest.application.goes_on()
    guest.run(300.0)
    assert [line for line in told(guest) if "recover" in line.split(":")[0]] == []
    assert guest.fault is None


@pytest.mark.parametrize("step", [-3600.0, -60.0, -30.0, 30.0, 3600.0])
@pytest.mark.parametrize("before", [1.0, 45.0, 70.0])
def test_a_report_from_before_the_clock_was_set_is_not_taken_for_a_newer_one(step: float, before: float) -> None:
    """Set back, an old report looks young: a driver that had left would be believed, and a sleeper be called dead."""
    guest = settled(action=Action.RECOVER_UNRESPONSIVE, **FAST)
    guest.run(300.0)
    guest.balloon_until = guest.host.now
    guest.run(330.0)
    guest.host.sets_clock(step)
    guest.run(330.0 + before)
    falls_asleep(guest)
    guest.run(1000.0)
    assert [line for line in told(guest) if "recover" in line] == []


# -- starved -----------------------------------------------------------------------------------------------------------


def starves(guest: Guest, throttled: float | None = 0.9) -> None:
    """Its vCPU is to run, and is hardly ever let; so nobody in it answers in time. throttled: by its own quota."""
    guest.does = lambda now: (int(now * 1e7), 0)
    guest.delayed, guest.throttled = 0.95, throttled
    guest.kernel_dies()


@pytest.mark.parametrize("policy", POLICIES)
def test_a_guest_that_is_starved_is_not_dead(policy: dict[str, float]) -> None:
    """Three times its misses are void, then it is told, and never recovered; when it is let run, all is well."""
    guest = settled(action=Action.RECOVER_UNRESPONSIVE, **policy)
    starves(guest)
    guest.run(2000.0)
    assert told(guest)[-1] == "updated starved" if len(told(guest)) > 1 else told(guest) == ["raised starved"]
    assert [line for line in told(guest) if "recover" in line] == []
    long = 4 * (policy["threshold"] * policy["interval"] + policy["timeout"])
    raised = float(guest.transcript[0].split()[0])
    assert raised - 100.0 <= long + policy["interval"]
    # Where the threshold is reached before the probe has ended, that is told first.
    assert policy is FAST or raised - 100.0 >= long / 2
    guest.does = guest.delayed = None
    guest.kernel_boots()
    guest.agent_goes_on()
    guest.run(2200.0)
    assert told(guest)[-1] == "cleared starved: recovered"


def test_a_kernel_that_dies_on_a_busy_host_is_found_dead() -> None:
    """It spins, and has an eighth of a processor; or is halted, and waits for none."""
    for does, delayed in ((lambda now: (int(now * 1.2e8), 0), 0.88), (lambda now: (0, 0), 0.0)):
        guest = settled(action=Action.RECOVER, **FAST)
        guest.monitor.system.of_domain = System.LINUX
        guest.does, guest.delayed = does, delayed
        guest.kernel_dies()
        guest.run(130.0)
        assert guest.fault is not None
        assert (guest.fault.cause, guest.fault.recommended_action) == ("guest_hung", "recover")


@pytest.mark.parametrize(
    ("vcpu", "delayed", "counted", "expected"),
    [
        (0.01, 0.9, 2.5, True),
        (0.01, 0.49, 2.5, False),
        (0.04, 0.9, 2.5, False),  # it ran for 0.1 s
        (0.0, 0.0, 2.5, False),
        (None, 0.9, 2.5, False),
        (0.01, None, 2.5, False),
        (0.01, 0.9, None, False),
    ],
)
def test_who_is_starved(vcpu: float | None, delayed: float | None, counted: float | None, expected: bool) -> None:
    """Both that it hardly ran and that it waited; what is not known is no starving."""
    evidence = Evidence(vcpu=Reading(vcpu), delayed=Reading(delayed), counted=Reading(counted))
    assert starved(evidence) is expected


# -- agents that come and go -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("up", "down"), [(0.5, 0.5), (2.0, 2.0), (4.0, 1.0), (15.0, 1.0), (60.0, 1.0)])
def test_an_agent_that_ends_again_and_again_has_exited(up: float, down: float) -> None:
    """Whoever opens a port is scheduled: however long it lives, that it does not answer is its own affair."""
    guest = settled(action=Action.RECOVER_UNRESPONSIVE, timing=Timing(exit_settle_time=10.0), **FAST)
    guest._change(rtt=None)
    while guest.host.now < 600.0:
        guest.agent_exits()
        guest.run(guest.host.now + down)
        guest.agent_starts(rtt=None)
        guest.run(guest.host.now + up)
    assert guest.fault is not None
    assert guest.fault.cause == "agent_exited"
    assert guest.monitor.state in (State.ALIVE, State.MISSING, State.SILENT)
    assert len(told(guest)) <= 4, guest.transcript


def test_the_grace_of_a_domain_that_is_off_does_not_run() -> None:
    """Met while it was shut off, started an hour later: it has all of its grace."""
    guest = lone(memory=changed(NEW, running=False), grace=600.0)
    guest._change(runs=False)
    guest.run(3600.0)
    guest.boots(1000.0, rtt=None)
    guest.run(4190.0)
    assert guest.transcript == []
    guest.run(4210.0)
    assert told(guest) == ["raised not_established"]
