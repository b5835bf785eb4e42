"""Any number of instances, projects and consumers, in any order: what is never let through, and that nobody starves.

The model beside it is written from the rules as docs/consumer.rst states them, not from the code.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import partial

import hypothesis.strategies as st
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.consumer.conftest import Desk
from tests.unit.consumer.test_recovery_places import NOON, asks, permits
from vmhb_common.model import fault as life
from vmhb_common.model.fault import Fault, Resolution
from vmhb_consumer import recovery_places
from vmhb_consumer.database import Database
from vmhb_consumer.recovery_limits import BUDGET, FRESH, OBSERVE, PAUSE, PAUSED, SHARE
from vmhb_consumer.recovery_places import NOTED, Board
from vmhb_consumer.settings import RecoverySettings
from vmhb_consumer.stop_button import Pause

PROJECTS = ("acme", "beta", None)
GUESTS = 10
RECOVERY_TIME = 120.0
#: Steps of PAUSE in which everybody who waits must have had a place: each place ends within RECOVERY_TIME, and the rate
#: lets one begin each minute at least.
PATIENCE = int(GUESTS * (RECOVERY_TIME + 70.0) / PAUSE)


@dataclass
class Place:
    """One that was let through. over: its recovery has ended."""

    fault: Fault
    at: float
    over: bool = False


class Recoveries(RuleBasedStateMachine):
    """Two consumers on one database, and a model of what they have let through."""

    @initialize(
        places=st.integers(0, 5),
        rate=st.integers(1, 6),
        recoveries=st.integers(1, 3),
        observe=st.sampled_from([False] * 5 + [True]),
    )
    def begin(self, places: int, rate: int, recoveries: int, observe: bool) -> None:
        self.database = Database("sqlite://")
        self.database.open()
        self.desk = Desk(self.database, to=["one"])
        self.limits = RecoverySettings(
            max_concurrent=places,
            recovery_time=RECOVERY_TIME,
            rate=rate,
            recoveries=recoveries,
            recovery_window=600.0,
            action_ttl=1e6,
            observe_only=observe,
        )
        self.consumers = [permits(self.desk, self.limits) for _ in range(2)]
        self.open: dict[int, Fault] = {}
        self.granted: dict[tuple[str, int], Place] = {}
        self.waiting: dict[str, tuple[Fault, float]] = {}
        self.whys: dict[str, str] = {}
        self.until = 0.0
        self.number = 0

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self._everybody_has_a_turn()
            self.database.close()

    # -- what happens --------------------------------------------------------------------------------------------------

    @rule(guests=st.sets(st.integers(0, GUESTS - 1), min_size=1))
    def raised(self, guests: set[int]) -> None:
        for guest in guests - set(self.open):
            self.number += 1
            project = PROJECTS[0 if guest < GUESTS // 2 else 1 + guest % 2]
            fault = asks(self.number, project, instance_uuid=asks(guest).instance_uuid)
            self.open[guest] = fault
            self.desk.take(fault)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def another_attempt(self, data: st.DataObject) -> None:
        guest = data.draw(st.sampled_from(sorted(self.open)))
        was = self.open[guest]
        fault = replace(was, sequence=was.sequence + 1, recovery_attempt=was.recovery_attempt + 1)
        self.open[guest] = fault
        self.desk.take(fault)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def cleared(self, data: st.DataObject) -> None:
        fault = self.open.pop(data.draw(st.sampled_from(sorted(self.open))))
        self.desk.take(life.cleared(fault, Resolution.RECOVERED, NOON))
        self.waiting.pop(fault.fault_id, None)
        self._ends(fault)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), consumer=st.integers(0, 1))
    def asked(self, data: st.DataObject, consumer: int) -> None:
        self._asks(self.open[data.draw(st.sampled_from(sorted(self.open)))], consumer)

    @precondition(lambda self: self.open)
    @rule(consumer=st.integers(0, 1), seed=st.integers(0, 9))
    def all_ask(self, consumer: int, seed: int) -> None:
        """Each once, in any order."""
        faults = list(self.open.values())
        random.Random(seed).shuffle(faults)
        for fault in faults:
            self._asks(fault, consumer)

    @precondition(lambda self: self.granted)
    @rule(data=st.data())
    def over(self, data: st.DataObject) -> None:
        """Reporters say that recoveries have ended, however they did; or say it again, too late. Then all ask."""
        for key in data.draw(st.sets(st.sampled_from(sorted(self.granted)), min_size=1)):
            place = self.granted[key]
            self.database.run(partial(_end, place.fault))
            place.over = True
        self.all_ask(0, self.number)

    @rule(seconds=st.sampled_from([1.0, PAUSE, 60.0, RECOVERY_TIME, FRESH]))
    def passes(self, seconds: float) -> None:
        self.desk.clock.now += seconds

    @rule(seconds=st.sampled_from([60.0, 600.0]))
    def paused(self, seconds: float) -> None:
        self.until = self.desk.clock() + seconds
        Board(self.database).press(Pause("storage", self.desk.clock(), self.until))

    @rule()
    def resumed(self) -> None:
        Board(self.database).release()
        self.until = 0.0

    # -- what must be true ---------------------------------------------------------------------------------------------

    @invariant()
    def as_the_operator_sees_it(self) -> None:
        """No more places than there are, and those that the model has."""
        if not hasattr(self, "database"):
            return
        picture = Board(self.database).picture(self.limits, self.desk.clock())
        held = self._held()
        assert sum(picture.places.values()) == len(held) <= self.limits.max_concurrent
        for project in PROJECTS:
            assert picture.places.get(project, 0) == sum(place.fault.project_id == project for place in held)
        assert {one.instance_uuid for one in picture.waiting} == {
            fault.instance_uuid for fault, at in self.waiting.values() if self.desk.clock() - at < FRESH
        }

    def _asks(self, fault: Fault, consumer: int) -> None:
        now, key = self.desk.clock(), (fault.fault_id, fault.recovery_attempt)
        others = [place for place in self._held() if place.fault.fault_id != fault.fault_id]
        mine = any(place.fault == fault for place in self._held())
        begun = [
            place for place in self.granted.values() if (place.fault.fault_id, place.fault.recovery_attempt) != key
        ]
        permit = self.consumers[consumer].ask(fault, "one", self.desk.clock)
        if permit.granted:
            self._rightly(fault, others, begun, mine)
            if not mine:
                self._ends(fault)
                self.granted[key] = Place(fault, now)
            self.waiting.pop(fault.fault_id, None)
            return
        match permit.withheld:
            case "paused":
                assert now < self.until
            case "observe":
                assert self.limits.observe_only
            case "share":
                of_project = sum(place.fault.project_id == fault.project_id for place in others)
                assert 2 * of_project >= self.limits.max_concurrent
            case "budget":
                spent = [place for place in begun if place.fault.instance_uuid == fault.instance_uuid]
                assert len(spent) >= self.limits.recoveries
        if permit.seconds is None:
            assert permit.withheld in (BUDGET, OBSERVE)
            self.waiting.pop(fault.fault_id, None)
        else:
            assert permit.withheld in ("", PAUSED, SHARE)
            assert 1.0 <= permit.seconds <= 60.0
            # It counts as waiting since the last time that this was written down.
            why, at = self.whys.get(fault.fault_id, ""), self.waiting.get(fault.fault_id, (fault, -NOTED))[1]
            self.waiting[fault.fault_id] = (fault, at if why == permit.why and now - at < NOTED else now)
            self.whys[fault.fault_id] = permit.why

    def _rightly(self, fault: Fault, others: list[Place], begun: list[Place], mine: bool) -> None:
        """Never while it is paused, observed or stopped, nor over a limit, nor over its share while another waits."""
        now, limits = self.desk.clock(), self.limits
        assert now >= self.until, "paused"
        assert not limits.observe_only
        assert limits.max_concurrent > 0
        if mine:
            return
        assert len(others) < limits.max_concurrent
        assert sum(now - place.at < 60.0 for place in begun) < limits.rate
        of_instance = [place for place in begun if place.fault.instance_uuid == fault.instance_uuid]
        assert sum(now - place.at < limits.recovery_window for place in of_instance) < limits.recoveries
        rivals = [one for one, at in self.waiting.values() if one.project_id != fault.project_id and now - at < FRESH]
        after = 1 + sum(place.fault.project_id == fault.project_id for place in others)
        if rivals or len(others) + 1 == limits.max_concurrent:
            assert after <= max(1, (limits.max_concurrent + 1) // 2)

    def _held(self) -> list[Place]:
        now = self.desk.clock()
        return [place for place in self.granted.values() if not place.over and now - place.at < RECOVERY_TIME]

    def _ends(self, fault: Fault) -> None:
        for place in self.granted.values():
            place.over |= place.fault.fault_id == fault.fault_id

    def _everybody_has_a_turn(self) -> None:
        """From any state on: whoever is not refused for good has a place, in time; and then no place is held for ever.
        Nobody's recovery is said to have ended, so that each is held for its whole time."""
        if self.limits.observe_only or not self.limits.max_concurrent:
            return
        self.resumed()
        left, chance = list(self.open.values()), random.Random(self.number)
        for _ in range(PATIENCE):
            chance.shuffle(left)
            for fault in left:
                self._asks(fault, 0)
            left = [fault for fault in left if fault.fault_id in self.waiting]
            if not left:
                break
            self.desk.clock.now += PAUSE
        assert not left, "starved"
        self.desk.clock.now += RECOVERY_TIME
        assert not Board(self.database).picture(self.limits, self.desk.clock()).places


def _end(fault: Fault, connection: sa.Connection) -> None:
    recovery_places.end(connection, fault, "one")


TestRecoveries = Recoveries.TestCase
TestRecoveries.settings = settings(
    max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
