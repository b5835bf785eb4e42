"""A fault has the right cause, in time, with its evidence, and is cleared: on real guests, through a real broker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import fields

import jsonschema
import pytest

from tests.conftest import Figure, Repetitions
from tests.functional.conftest import ALONE, DETECTION, POLICY, QUIET, Guests, Workers, acks, assert_quiet, faults
from tests.lab.guest import Guest
from tests.lab.processes import wait_until
from tests.stage.consumer import ConsumerProcess, Notification
from tests.stage.worker import WorkerProcess
from vmhb_common.objects import FaultPayload, schema
from vmhb_worker.core.evidence import Evidence

#: After the raise, the balloon's answer is known within this many seconds.
FINAL = 3.0
#: A recovery is asked for this much later, at most, at these intervals: whoever is silent may come back.
HOLD = 6.0
#: Probes as often as possible: one a minute would leave the second outage of a test without evidence.
PROBE_OFTEN = {"probe_interval": 1}
INPUTS = {f.name for f in fields(Evidence)} - {"pending"}


@pytest.fixture(autouse=True)
def well_formed(consumer: ConsumerProcess) -> Iterator[None]:
    """All that any test here reads of a fault is as the shipped schema says, and tells all inputs of its verdict."""
    begun = time.monotonic()
    yield
    shipped = json.loads(schema.path(FaultPayload).read_text())
    for notification in consumer.faults(since=begun):
        jsonschema.validate(notification.payload, shipped)
        assert set(notification.evidence) == INPUTS
        for reading in notification.evidence.values():
            if reading["value"] == "unavailable":
                assert reading["reason"]
            else:
                assert reading["age"] is None or reading["age"] >= 0


def final(consumer: ConsumerProcess, raised: Notification, within: float = FINAL) -> Notification:
    """The first notification of this fault for which no evidence was outstanding any more."""
    return first_without({"evidence"}, consumer, raised, within)


def first_without(withheld: set[str], consumer: ConsumerProcess, raised: Notification, within: float) -> Notification:
    """The first notification of this fault that none of these withholds a recovery of."""

    def decided(n: Notification) -> bool:
        return n.data.get("fault_id") == raised.data["fault_id"] and n.data["withheld"] not in withheld

    return consumer.wait_for("final cause", decided, raised.at + within - time.monotonic())


def life(consumer: ConsumerProcess, raised: Notification) -> list[Notification]:
    """All that was read of this fault so far: one fault, numbered without a gap, raised once and first of all."""
    told = [n for n in consumer.faults(raised.instance_uuid) if n.fault_id == raised.fault_id]
    assert [n.sequence for n in told] == list(range(1, len(told) + 1))
    assert [n.event_type for n in told].count("vmhb.fault.raised") == 1 == told[0].sequence
    return told


def recovered(consumer: ConsumerProcess, raised: Notification, healed: float, within: float) -> Notification:
    """It was cleared for the one good reason, by the same id, and nothing is asked for any more."""

    def is_its_clear(n: Notification) -> bool:  # and not an earlier fault's, which is told again with the reminders
        return n.event_type == "vmhb.fault.cleared" and n.fault_id == raised.fault_id

    cleared = consumer.wait_for("its clear", is_its_clear, within, since=healed)
    assert cleared.resolution == "recovered"
    assert (cleared.state, cleared.recommended_action, cleared.withheld) == ("cleared", "none", None)
    assert cleared.severity == raised.severity
    assert life(consumer, raised)[-1] is cleared
    return cleared


def outages(
    name: str,
    guest: Guest,
    daemon: WorkerProcess,
    consumer: ConsumerProcess,
    figure: Figure,
    deeds: tuple[Callable[[], float], Callable[[], float]],
    times: int,
) -> set[str]:
    """Hurt and heal the guest so often; the causes of which there was ever a word. Figures on the way."""
    hurt, heal = deeds
    causes: set[str] = set()
    seen: set[str] = set()
    for number in range(times):
        if number and number % 3 == 0:  # the fourth of one life of the worker would be called flapping
            daemon.stop()
            daemon.start()
        daemon.wait_known(guest.uuid)
        moment = hurt()
        raised = consumer.wait_fault("raised", guest.uuid, 10, since=moment)
        figure(f"{name}: until raised", raised.at - moment, "s", DETECTION)
        assert raised.misses == raised.threshold == 3
        assert raised.fault_id not in seen
        seen.add(raised.fault_id)
        figure(f"{name}: from raised to its final cause", final(consumer, raised).at - raised.at, "s", FINAL)
        healed = heal()
        cleared = recovered(consumer, raised, healed, 60)
        figure(f"{name}: from its end until cleared", cleared.at - healed, "s")
        causes |= {n.cause for n in life(consumer, raised)}
    return causes - {"guest_silent"}  # while evidence is outstanding, it says so


def test_a_stopped_agent_is_agent_unresponsive(
    guests: Guests, worker: Workers, consumer: ConsumerProcess, figure: Figure, repetitions: Repetitions
) -> None:
    """An agent that hangs in a living kernel: raised at the third miss, called what it is, every time."""
    guest = guests.get()
    daemon = worker(verdict=PROBE_OFTEN)
    deeds = (guest.stop_agent, guest.continue_agent)
    causes = outages("stopped agent", guest, daemon, consumer, figure, deeds, repetitions(3, 20))
    assert causes == {"agent_unresponsive"}


def test_a_panic_is_guest_hung(
    guests: Guests, worker: Workers, consumer: ConsumerProcess, figure: Figure, repetitions: Repetitions
) -> None:
    """A panicked kernel without a panic device is told from a hung agent, every time; a reset ends it."""
    guest = guests.get()
    daemon = worker(verdict=PROBE_OFTEN)
    deeds = (guest.panic, guest.reset)
    causes = outages("panic", guest, daemon, consumer, figure, deeds, repetitions(3, 20))
    assert causes == {"guest_hung"}


def test_a_panic_that_the_guest_tells_of_is_guest_panicked(
    guests: Guests, worker: Workers, consumer: ConsumerProcess, figure: Figure
) -> None:
    """With a panic device and on_crash=preserve: guest_panicked at once; recovery after panic_grace, not sooner."""
    grace = 3
    guest = guests.get(panic=True, on_crash="preserve", fresh=True, policy={"action": "recover"})
    daemon = worker(verdict={"panic_grace": grace})
    daemon.wait_known(guest.uuid)
    moment = guest.panic()
    raised = consumer.wait_fault("raised", guest.uuid, 5, since=moment)
    figure("panic with a panic device: until raised", raised.at - moment, "s", 1.0)
    assert (raised.cause, raised.confidence, raised.severity) == ("guest_panicked", "high", "critical")
    assert (raised.recommended_action, raised.withheld) == ("alarm", "hold")
    asked = consumer.wait_fault("updated", guest.uuid, grace + 5, since=raised.at)
    figure(
        "panic with a panic device: until its recovery is asked for, panic_grace 3 s", asked.at - moment, "s", grace + 1
    )
    assert asked.at - moment >= grace
    assert (asked.cause, asked.recommended_action) == ("guest_panicked", "recover")
    assert raised.evidence["panic"]["value"] is True
    guest.destroy()
    recovered(consumer, raised, guest.start(), 60)


def test_a_killed_agent_is_agent_exited(
    guests: Guests, worker: Workers, consumer: ConsumerProcess, figure: Figure
) -> None:
    """A port that stays closed is agent_exited after exit_settle_time: a warning, since a dead agent is no dead VM."""
    settle = 0.5
    guest = guests.get(policy={"action": "recover_unresponsive"})
    daemon = worker(agent={"exit_settle_time": settle})
    daemon.wait_known(guest.uuid)
    killed = guest.kill_agent(restart=False)
    raised = consumer.wait_fault("raised", guest.uuid, 5, since=killed)
    figure("killed agent until raised, exit_settle_time 0.5 s", raised.at - killed, "s", settle + 0.5)
    assert (raised.cause, raised.severity, raised.recommended_action) == ("agent_exited", "warning", "alarm")
    assert raised.evidence["port"]["value"] is False
    time.sleep(QUIET)
    assert [n.cause for n in life(consumer, raised)] == ["agent_exited"]
    recovered(consumer, raised, guest.allow_agent(), 10)


def test_an_agent_that_is_restarted_at_once_is_no_fault(
    guests: Guests, worker: Workers, consumer: ConsumerProcess
) -> None:
    """Killed and started again by the guest's service manager, well within the default exit_settle_time."""
    guest = guests.get()
    daemon = worker()
    daemon.wait_known(guest.uuid)
    killed = guest.kill_agent()
    time.sleep(0.5)
    assert_quiet(daemon, consumer, guest, killed)


def test_a_killed_qemu_is_qemu_failed(
    guests: Guests, worker: Workers, consumer: ConsumerProcess, figure: Figure
) -> None:
    """QEMU's death is known as soon as libvirt tells it, and over when the instance was started and answers again."""
    guest = guests.get()
    daemon = worker(host="compute-7.example.org")
    daemon.wait_known(guest.uuid)
    killed = guest.kill_qemu()
    raised = consumer.wait_fault("raised", guest.uuid, 10, since=killed)
    figure("killed QEMU until raised", raised.at - killed, "s", 2.5)
    assert (raised.cause, raised.confidence, raised.severity) == ("qemu_failed", "high", "critical")
    # A receiver can tell from it alone who is meant, and by which rule.
    assert (raised.host, raised.publisher_id) == ("compute-7.example.org", "vmhb-worker:compute-7.example.org")
    assert (raised.instance_uuid, raised.instance_name) == (guest.uuid, guest.name)
    assert {name: raised.data[name] for name in POLICY} == POLICY
    assert raised.last_ack_at is not None and raised.raised_at is not None and raised.cleared_at is None
    guest.wait_state("shut off")
    started = guest.start()
    cleared = recovered(consumer, raised, started, 60)
    figure("start after a killed QEMU until cleared (a boot)", cleared.at - started, "s")
    assert [n.cause for n in life(consumer, raised)] == ["qemu_failed"] * 2


def test_a_stopped_qemu_is_qemu_hung_and_holds_up_nobody(
    guests: Guests, worker: Workers, consumer: ConsumerProcess, figure: Figure
) -> None:
    """A QEMU that stands still is called that, while its neighbours' acks and detection stay in time."""
    hung, victim, bystander = guests.get(), guests.get(), guests.get()
    daemon = worker()
    for guest in (hung, victim, bystander):
        daemon.wait_known(guest.uuid)
    ages: list[float] = []
    skipped: list[int] = []

    def look() -> None:
        shown = daemon.show(bystander.uuid)
        ages.append(shown["last_ack_age"])
        skipped.append(shown["skipped"])

    stopped = hung.stop_qemu()
    agent_stopped = victim.stop_agent()
    while not consumer.faults(hung.uuid, stopped) or time.monotonic() < stopped + 10:
        assert time.monotonic() < stopped + 15
        look()
        time.sleep(0.1)

    def is_qemu_hung(n: Notification) -> bool:
        return n.data.get("instance_uuid") == hung.uuid and n.data.get("cause") == "qemu_hung"

    found = consumer.wait_for("qemu_hung", is_qemu_hung, 5, since=stopped)
    figure("stopped QEMU until qemu_hung", found.at - stopped, "s", 10)
    stood_still = max(found.evidence[who]["value"] or 0.0 for who in ("main_thread", "occupied"))
    assert stood_still >= 5 and found.evidence["process"]["value"] is True
    beside = consumer.wait_fault("raised", victim.uuid, 1, since=agent_stopped)
    in_time = 1.05 * (3 * 1 + 1)
    figure("stopped agent beside a stopped QEMU: until raised", beside.at - agent_stopped, "s", in_time)
    assert final(consumer, beside, 10).cause == "agent_unresponsive"
    figure("age of a bystander's last ack beside a stopped QEMU", max(ages), "s", 1.05 * 1 + 0.1)
    assert max(skipped) == 0
    assert faults(consumer, bystander, stopped) == []
    raised = consumer.wait_fault("raised", hung.uuid, 1, since=stopped)
    recovered(consumer, raised, hung.continue_qemu(), 30)
    recovered(consumer, beside, victim.continue_agent(), 15)
    assert faults(consumer, bystander, stopped) == []


def test_without_a_balloon_there_is_no_telling(
    guests: Guests, worker: Workers, consumer: ConsumerProcess, figure: Figure
) -> None:
    """No evidence either way: guest_silent, of low confidence, and raised as soon as any other."""
    guest = guests.get(balloon=None, policy={"action": "recover"})
    daemon = worker()
    wait_until(lambda: acks(daemon, guest), 30, "it acknowledges")
    stopped = guest.stop_agent()
    raised = consumer.wait_fault("raised", guest.uuid, 10, since=stopped)
    figure("stopped agent without balloon: until raised", raised.at - stopped, "s", DETECTION)
    told = final(consumer, raised)
    assert (told.cause, told.confidence, told.recommended_action) == ("guest_silent", "low", "alarm")
    assert told.withheld is None and raised.misses == 3
    assert "no balloon" in told.evidence["balloon"]["reason"]
    time.sleep(FINAL)
    assert {n.cause for n in life(consumer, raised)} == {"guest_silent"}
    recovered(consumer, raised, guest.continue_agent(), 15)


def test_a_guest_that_never_answered_is_not_established(
    guests: Guests, worker: Workers, consumer: ConsumerProcess, figure: Figure
) -> None:
    """A warning at the end of its grace, and cleared by its very first acknowledgement."""
    grace = 6
    guest = guests.get(fresh=True, policy={"grace": grace, "action": "recover_unresponsive"})
    guest.kill_agent(restart=False)
    daemon = worker()
    wait_until(lambda: bool(daemon.show(guest.uuid)), 10, "the worker has met it", every=0.02)
    met = time.monotonic()
    raised = consumer.wait_fault("raised", guest.uuid, grace + 5, since=met)
    # Met when the worker connected to libvirt: for one interval it judges nobody.
    figure("never answered: from met to raised, grace 6 s", raised.at - met, "s", 1 + grace + 0.5)
    assert raised.at - met > grace - 1
    assert (raised.cause, raised.severity, raised.recommended_action) == ("not_established", "warning", "alarm")
    assert raised.last_ack_at is None
    allowed = guest.allow_agent()
    recovered(consumer, raised, allowed, 15)

    def is_established(n: Notification) -> bool:
        return n.event_type == "vmhb.heartbeat.established" and n.instance_uuid == guest.uuid

    consumer.wait_for("established", is_established, 5, since=allowed)


def test_recovery_is_asked_for_as_the_policy_says(guests: Guests, worker: Workers, consumer: ConsumerProcess) -> None:
    """`alarm`: never. `recover`: for a dead QEMU, not for a hung agent. `recover_unresponsive`: for both."""
    agent_hangs = {"alarm": "alarm", "recover": "alarm", "recover_unresponsive": "recover"}
    qemu_dies = {"alarm": "alarm", "recover": "recover", "recover_unresponsive": "recover"}
    asked = {action: guests.get(policy={"action": action}) for action in agent_hangs}
    daemon = worker(verdict=ALONE)
    for guest in asked.values():
        daemon.wait_known(guest.uuid)
    stopped = {action: guest.stop_agent() for action, guest in asked.items()}
    raised = {
        action: consumer.wait_fault("raised", guest.uuid, 10, since=stopped[action]) for action, guest in asked.items()
    }
    for action, first in raised.items():
        told = first_without({"evidence", "hold"}, consumer, first, FINAL + HOLD)
        assert (told.cause, told.recommended_action) == ("agent_unresponsive", agent_hangs[action]), action
        assert told.recovery_attempt == int(agent_hangs[action] == "recover")
        assert told.withheld is None
        early = life(consumer, first)[: told.sequence - 1]
        waits = {("alarm", "evidence")} | ({("alarm", "hold")} if agent_hangs[action] == "recover" else set())
        assert {(n.recommended_action, n.withheld) for n in early} <= waits
    for action, guest in asked.items():
        recovered(consumer, raised[action], guest.continue_agent(), 15)
    for action, guest in asked.items():
        killed = guest.kill_qemu()
        died = consumer.wait_fault("raised", guest.uuid, 10, since=killed)
        assert (died.cause, died.recommended_action) == ("qemu_failed", qemu_dies[action]), action
        assert died.recovery_attempt == int(qemu_dies[action] == "recover")
