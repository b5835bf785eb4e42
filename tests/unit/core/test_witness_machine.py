"""Any guests, any troubles, any excuses, in any order: no dead one is excused, and no living one accused.

The model beside the core knows what is true of each guest: what stands still, who is excused, and since when.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.core.scenario import KNOWN, USUAL, Guest, Host
from vmhb_common.model.fault import Change, Fault
from vmhb_common.model.policy import Action, Channel
from vmhb_worker.core import events as ev
from vmhb_worker.core import protocol
from vmhb_worker.core.ask_schedule import full_threshold
from vmhb_worker.core.evidence import System
from vmhb_worker.core.fault_register import Entry
from vmhb_worker.core.transitions import State

Asked = tuple[tuple[float, float, int], Channel]
#: (interval, timeout, threshold)
POLICIES = [(10.0, 5.0, 3), (1.0, 1.0, 3), (60.0, 5.0, 3)]
#: What keeps all of a guest from running.
STANDS = frozenset({"halted", "asleep", "QEMU stopped", "paused", "starved"})
#: What is a death, or as good as one, as long as it lasts.
DEATHS = frozenset({"halted", "spins", "QEMU stopped"})
#: What a recovery may be asked for.
GUILT = DEATHS | {"hangs"}
#: libvirt itself keeps it from running, or may: nothing is judged meanwhile.
SILENCES = frozenset({"paused", "job", "booting", "starved"})
#: Only a guest whose kernel lives does this.
ITS_OWN = frozenset({"exited", "goodbye", "balloon left", "asleep", "hangs"})
#: What a fault says of one that is dead.
DEAD = frozenset({"guest_hung", "qemu_hung"})
#: Its balloon has reported by so long (seconds) after it goes on.
STALE = 25.0
#: What was found may be on its way for so long (seconds).
ON_ITS_WAY = 20.0
#: libvirt says after this (seconds) that somebody holds the agent; a probe of one that may be asleep, and its start.
HELD, PROBE = 30.0, 20.0
BOOTS = 20.0
#: When all is well again, everything has an end by then (seconds).
HEALED = 600.0

_OF_AGENT, _OF_APPLICATION = {"held", "given up", "unconnected"}, {"goodbye", "disconnected"}
TROUBLES = (
    "hangs", "exited", "held", "given up", "unconnected", "goodbye", "disconnected", "halted", "spins", "balloon left",
    "QEMU stopped", "paused", "job", "starved", "asleep",
)  # fmt: skip
DEEDS = (*TROUBLES, "boots", "libvirtd", "clock")


class Body:
    """What is true of a guest, and what follows for those who see it from outside."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.on: dict[str, float] = {}
        self.guilty_until = -math.inf  # lately
        self.dead_since = math.inf  # and not excused as a whole
        self.stood_until = -math.inf  # all of it
        self.left_at = -math.inf
        self.boot = 0

    @property
    def application(self) -> bool:
        return self.guest.monitor.policy.channel is Channel.APPLICATION

    @property
    def now(self) -> float:
        return self.guest.host.now

    def may(self, trouble: str) -> bool:
        """Can it happen now?"""
        on = self.on.keys()
        if trouble in (_OF_AGENT if self.application else _OF_APPLICATION):
            return False
        if trouble in ITS_OWN and on & (STANDS | {"spins"}):
            return False
        against = {"asleep": {"exited", "balloon left"}, "goodbye": on, "halted": STANDS, "spins": STANDS}
        return not on & against.get(trouble, set())

    def does(self, deed: str) -> None:
        """A trouble begins, or ends; or it boots."""
        was_guilty, stood = self.guilty, bool(self.on.keys() & (STANDS | {"balloon left", "spins"}))
        if deed == "boots":
            self.boots()
        elif deed in self.on and deed in ITS_OWN and self.on.keys() & (STANDS | {"spins"}) - {deed}:
            pass  # it does nothing by itself
        elif deed in self.on:
            del self.on[deed]
            self._ends(deed)
        elif self.may(deed) and "booting" not in self.on:
            self.on[deed] = self.now
            self._begins(deed)
        if was_guilty and not self.guilty:
            self.guilty_until = self.now
        if stood and not self.on.keys() & (STANDS | {"balloon left", "spins"}):
            self.stood_until = self.now
        self.reckon()

    @property
    def guilty(self) -> bool:
        """May a recovery of it be asked for?"""
        guilt = GUILT | {"exited"} if self.application else GUILT
        asleep = self.application and self.on.get("asleep", math.inf) - self.stood_until < STALE
        return bool(self.on.keys() & guilt) or asleep

    def reckon(self) -> None:
        """Since when has it been dead, with nothing to excuse all of it?"""
        dead = self.on.keys() & DEATHS and not self.on.keys() & SILENCES and self.guest.host.libvirtd
        if not dead:
            self.dead_since = math.inf
        elif self.dead_since == math.inf:
            self.dead_since = self.now

    def boots(self) -> None:
        """Reset from outside: whatever was wrong in it is over."""
        if self.on.keys() & {"QEMU stopped", "job"}:
            return
        guest = self.guest
        self.on = {"booting": self.now}
        self.boot += 1
        number = self.boot
        guest.happens(ev.Booted())
        self._settle()
        guest._change(port=False, paused=False)
        guest.happens(ev.PortChanged(False, guest.monitor.policy.channel))
        if self.application:
            guest.happens(ev.ChannelUp())
        guest.host.later(BOOTS, lambda: self._is_up(number))

    def _is_up(self, number: int) -> None:
        if number == self.boot and "booting" in self.on:
            del self.on["booting"]
            self._settle()
            self._port(True)
            self.reckon()

    def _begins(self, trouble: str) -> None:
        guest = self.guest
        if trouble == "goodbye":
            guest.application.says(protocol.Goodbye("leaves"))
            if "goodbye" not in guest.monitor.silences:
                self.on["hangs"] = self.on.pop("goodbye")
        self._settle()
        if trouble in ("exited", "asleep"):
            self.left_at = self.now
            self._port(False)
        elif trouble == "disconnected":
            guest.happens(ev.ChannelDown("EOF"))
        elif trouble == "QEMU stopped":
            guest._stopped_since = self.now
        elif trouble == "paused":
            guest.happens(ev.Paused("paused"))
        elif trouble == "job":
            guest.job = "save"
            guest.happens(ev.Silenced("job", "saved", self.now + 30.0))

    def _ends(self, trouble: str) -> None:
        guest = self.guest
        self._settle()
        if trouble in ("exited", "asleep") and not self.on.keys() & {"exited", "asleep"}:
            self._port(True)
        elif trouble == "disconnected":
            guest.application._waiting.clear()
            guest.happens(ev.ChannelUp())
        elif trouble == "QEMU stopped":
            guest._stopped_since = None
            if guest._blocked is not None:
                look, _ = guest._blocked
                guest.host.later(0.005, lambda: guest._answer(look))
        elif trouble == "paused":
            guest.happens(ev.Resumed())
        elif trouble == "job":
            guest.job = None  # cancelled: nobody says so

    def _port(self, is_open: bool) -> None:
        self.guest._change(port=is_open)
        self.guest.happens(ev.PortChanged(is_open, self.guest.monitor.policy.channel))

    def _settle(self) -> None:
        """Its kernel, its agent and its application are as their troubles let them."""
        guest, on = self.guest, self.on.keys()
        stands = bool(on & STANDS) or "spins" in on
        updated = guest._balloon_updated()
        if stands:
            guest._kernel_until = min(guest._kernel_until, self.now)
        elif guest._kernel_until < math.inf or ("balloon left" in on) != (guest.balloon_until < math.inf):
            guest._kernel_updated, guest._kernel_until, guest._period_since = updated, math.inf, self.now
        guest.balloon_until = self.on.get("balloon left", math.inf)
        guest.does = guest.delayed = None
        if "starved" in on and not on & (STANDS - {"starved"}):
            guest.does, guest.delayed = _starves, 0.95
        elif "spins" in on and not on & STANDS:
            guest.does = _spins
        silent = stands or "booting" in on
        hangs = silent or "hangs" in on
        guest._change(
            rtt=None if silent or ("hangs" in on and not self.application) else 0.01,
            paused="paused" in on,
            busy="held" in on,
            given_up="given up" in on,
            unconnected="unconnected" in on,
        )
        if hangs or on & {"exited", "goodbye", "disconnected"}:
            guest.application.hangs()
        elif guest.application.rtt is None:
            guest.application.goes_on()

    def heal(self) -> None:
        """Everything ends."""
        for trouble in sorted(self.on, key=lambda trouble: (trouble in ITS_OWN) + (trouble in ITS_OWN - {"asleep"})):
            if trouble != "booting":
                self.does(trouble)

    # -- what must be true ---------------------------------------------------------------------------------------

    @property
    def bound(self) -> float:
        """It is told by then (seconds) that it is dead."""
        asked = self.guest.monitor.policy
        return max(full_threshold(asked), USUAL.probe_interval) + asked.interval + HELD + PROBE

    def told_if_dead(self) -> None:
        """Nobody who has been dead for so long is not reported."""
        if self.now - self.dead_since < self.bound or not self.on.keys() & DEATHS:
            return
        begun = min(self.on[trouble] for trouble in self.on.keys() & (STANDS | {"spins"}))
        if "balloon left" in self.on or begun - self.stood_until < STALE:
            return  # its balloon had not reported since
        fault = self.guest.fault
        assert fault is not None, f"dead since {self.dead_since:.1f}, and not told: {self.picture()}"
        asleep = "halted" in self.on and self.on["halted"] - self.left_at < 15.0
        asleep = asleep or "asleep" in self.on
        assert fault.cause in DEAD or (asleep and fault.cause == "asleep"), f"{fault.cause}: {self.picture()}"

    def said_as_it_is(self) -> None:
        """Never alive, if it has not been heard for that long."""
        monitor = self.guest.monitor
        told = monitor.told(self.now)
        if told["state"] != "alive" or told["silences"] or told["last_ack_age"] is None:
            return
        heard = max(self.now - told["last_ack_age"], monitor.answers.undisturbed_since)
        assert self.now - heard <= full_threshold(monitor.policy) + 0.1, self.picture()

    def picture(self) -> str:
        head = f"{self.guest.uuid} at {self.now:.1f}: {self.on}"
        return "\n".join([head, *self.guest.transcript, str(self.guest.monitor.told(self.now))])


def _starves(now: float) -> tuple[int, int]:
    return int(now * 1e7), 0


def _spins(now: float) -> tuple[int, int]:
    return int(now * 1e9), 0


class Watched(Host):
    """A host whose every fault and recommendation is compared with what is true."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[Body] = []
        self.entries: list[Entry] = []

    def add(self, knobs: dict[str, Any]) -> None:
        guest = self.guest(f"vm-{len(self.bodies)}", KNOWN, action=Action.RECOVER_UNRESPONSIVE, **knobs)
        guest.monitor.system.of_domain = System.LINUX
        self.bodies.append(Body(guest))

    def _write(self, guest: Guest, entry: Entry | None) -> None:
        super()._write(guest, entry)
        if entry is None:
            return
        self.entries.append(entry)
        if entry.change is not Change.CLEARED and entry.fault.recommended_action == "recover":
            self._deserved(self.bodies[int(guest.uuid[3:])], entry.fault)

    def _deserved(self, body: Body, fault: Fault) -> None:
        """A recovery is asked for."""
        assert not body.guest.monitor.silences.everybody, f"{fault.cause} while all are excused: {body.picture()}"
        lately = self.now - body.guilty_until < ON_ITS_WAY
        assert body.guilty or lately, f"{fault.cause}: {body.picture()}"

    def passes(self, seconds: float) -> None:
        """Time does; who has been dead for long enough must have been told."""
        until = self.now + seconds
        for at in sorted({body.dead_since + body.bound for body in self.bodies} | {until}):
            if self.now <= at <= until:
                self.run(at + 0.001 if at < until else at)
                for body in self.bodies:
                    body.told_if_dead()
        for body in self.bodies:
            body.said_as_it_is()

    def does(self, which: int, deed: str) -> None:
        """Something happens to one of them, or to the host."""
        body = self.bodies[which % len(self.bodies)]
        if deed == "libvirtd":
            self._libvirtd(not self.libvirtd)
        elif deed == "clock":
            self.sets_clock((-30.0, 30.0, -3600.0, 3600.0)[which])
        else:
            body.does(deed)
        self.run(self.now)

    def _libvirtd(self, serves: bool) -> None:
        if serves:
            self.libvirtd_goes_on()
        else:
            self.libvirtd_stops()
        for body in self.bodies:
            body.reckon()

    def heal(self) -> None:
        """All is well from now on, and so says everybody by the end."""
        self._libvirtd(True)
        for body in self.bodies:
            body.heal()
        self.run(self.now + HEALED)
        for body in self.bodies:
            assert body.guest.fault is None, body.picture()
            assert body.guest.monitor.state is State.ALIVE, body.picture()
            set_to = [look.seconds for look in body.guest.looks() if isinstance(look, ev.SetBalloonPeriod)]
            assert set_to[-1:] in ([], [10]), body.picture()  # where that did not work, the engine tries again
            assert body.guest.monitor._in_place.excuse is None, body.picture()

    def books_are_right(self) -> None:
        """Each fault is opened once and closed once, and no two of an instance are open at a time."""
        is_open: dict[str, Fault] = {}
        closed: set[str] = set()
        for entry in self.entries:
            fault = entry.fault
            who = str(fault.instance_uuid)
            before = is_open.get(who)
            assert fault.fault_id not in closed
            if entry.change is Change.RAISED:
                assert before is None
            else:
                assert before is not None
                assert before.fault_id == fault.fault_id
                assert fault.sequence > before.sequence
            is_open[who] = fault
            if entry.change is Change.CLEARED:
                closed.add(fault.fault_id)
                del is_open[who]
        assert not is_open

    def probes_are_few(self) -> None:
        """Four in a minute, whatever happens."""
        for body in self.bodies:
            probe = ev.LookAt(ev.SetBalloonPeriod(1))
            at = [when for when, effect in body.guest.effects if effect == probe]
            for first, fifth in zip(at, at[4:], strict=False):
                assert fifth - first > 59.0, (at, body.picture())


DELAYS = st.sampled_from([0.0, 0.5, 2.0, 5.0, 11.0, 31.0, 70.0, 200.0])
STORIES = st.lists(st.tuples(DELAYS, st.integers(0, 3), st.sampled_from(DEEDS)), max_size=14)


@settings(derandomize=True, max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    guests=st.lists(st.tuples(st.sampled_from(POLICIES), st.sampled_from(Channel)), min_size=1, max_size=4),
    story=STORIES,
)
def test_any_troubles(guests: list[Asked], story: list[tuple[float, int, str]]) -> None:
    """See the docstrings of what is called."""
    tell(guests, story)


def tell(guests: Iterable[Asked], story: Iterable[tuple[float, int, str]]) -> Watched:
    """A story, from its beginning to the good end."""
    host = Watched()
    for (interval, timeout, threshold), channel in guests:
        host.add({"interval": interval, "timeout": timeout, "threshold": threshold, "channel": channel})
    host.run(200.0)
    for delay, which, deed in story:
        host.does(which, deed)
        host.passes(delay)
    host.heal()
    host.books_are_right()
    host.probes_are_few()
    return host
