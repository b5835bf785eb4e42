"""The fakes of what is around the consumer, written by hand. One section for each module that is stood in for."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from vmhb_common.model.causes import Ground, rests_on
from vmhb_common.model.fault import Change, Fault
from vmhb_consumer.database import Away
from vmhb_consumer.doubt_rules import Told, Unknown
from vmhb_consumer.last_word import NOVAS_TIME
from vmhb_consumer.reporters.base import Case, Done, Outcome, Reporter
from vmhb_consumer.reporters.masakari_rules import Notification, Server

# -- for the consumer: workers, and time -------------------------------------------------------------------------------


class ToldWorkers:
    """Notes what it is told, as `worker_api.WorkerAPI` would be. Raises what is in `errors` first."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.told: list[tuple[str, str, str, dict[str, Any]]] = []

    def configure(self, host: str, instance_uuid: str, policy: Mapping[str, str], *, observed_at: datetime) -> None:
        """As there."""
        self._take("configure", host, instance_uuid, policy=dict(policy), observed_at=observed_at)

    def expect_silence(
        self, host: str, instance_uuid: str, *, key: str, reason: str, timeout: float, observed_at: datetime
    ) -> None:
        """As there."""
        self._take(
            "expect_silence", host, instance_uuid, key=key, reason=reason, timeout=timeout, observed_at=observed_at
        )

    def end_silence(self, host: str, instance_uuid: str, *, key: str, observed_at: datetime) -> None:
        """As there."""
        self._take("end_silence", host, instance_uuid, key=key, observed_at=observed_at)

    def _take(self, method: str, host: str, instance_uuid: str, **arguments: Any) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.told.append((method, host, instance_uuid, arguments))


class WaitedTime:
    """Time that passes only where somebody waits. `ends_after`: seconds after which waiting is to end."""

    def __init__(self, now: datetime, ends_after: float = math.inf) -> None:
        self._began = now
        self._ends_after = ends_after
        self.waited: list[float] = []

    def now(self) -> datetime:
        """The wall clock."""
        return self._began + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        """Seconds since it began."""
        return sum(self.waited)

    def wait(self, seconds: float) -> bool:
        """As `threading.Event.wait`."""
        self.waited.append(seconds)
        return self.monotonic() > self._ends_after


class SlowHalf:
    """A half of the consumer that takes so many seconds to end, or as many as it is given."""

    def __init__(self, takes: float) -> None:
        self._takes = takes
        self.started = threading.Event()
        self.known = threading.Event()
        self.given: float | None = None
        self.stopped = False

    def start(self) -> None:
        """As `service.Half`."""
        self.started.set()

    def read_again(self) -> None:
        """Nothing of it may change."""

    def stop(self, timeout: float) -> None:
        """As there."""
        self.given = timeout
        threading.Event().wait(min(timeout, self._takes))
        self.stopped = True


class FailingHalf(SlowHalf):
    """One that can't be ended."""

    def __init__(self) -> None:
        super().__init__(0.0)

    def stop(self, timeout: float) -> None:
        """Raises."""
        raise RuntimeError("it can't be ended")


# -- for the consumer's faults half: Nova's API, reporters, witnesses --------------------------------------------------


class NovaAnswers:
    """A keystoneauth adapter of Nova's API. Each answer is a status code and a body, or is raised."""

    def __init__(self, *answers: tuple[int, Any] | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    def get(self, url: str, **_options: Any) -> Any:
        self.asked.append(url)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return _Response(*answer)


class _Response:
    def __init__(self, status_code: int, body: Any) -> None:
        self.status_code = status_code
        self._body = body

    def json(self) -> Any:
        if self._body is None:
            raise ValueError("not JSON")
        return self._body


def standing(fault: Fault, **changed: Any) -> Told:
    """What a worker of today says of a guest whose fault stands."""
    asked = {"recommended_action": "recover", "withheld": None}
    known = {"fault_id": fault.fault_id, "cause": fault.cause, **asked, "suspected_age": NOVAS_TIME}
    ground = rests_on(fault.cause)
    state = "gone" if ground.does_not_run else "alive" if ground is Ground.OWN_WORD else "silent"
    return Told({"state": state, "answered_since_miss": False, "silences": {}, "fault": known, **changed})


class Witness:
    """Answers about faults as it is told, and notes who was asked. word None: whatever it is, it stands."""

    def __init__(self, word: Any = None, place: Any = None, alive: Any = True) -> None:
        self.said_word, self.said_place, self.said_alive = word, place, alive
        self.asked: list[str] = []

    def word(self, fault: Fault) -> Any:
        self.asked.append(f"worker on {fault.host}")
        return standing(fault) if self.said_word is None else self.said_word

    def place(self, fault: Fault) -> Any:
        self.asked.append("Nova")
        if isinstance(self.said_place, Exception):
            raise self.said_place
        return self.said_place

    def answers(self, host: str) -> Any:
        self.asked.append(f"{host} alive?")
        return self.said_alive


class HangingWitness(Witness):
    """Nova does not answer before it is thawed."""

    def __init__(self) -> None:
        super().__init__(place=Unknown("Nova does not answer"))
        self.thawed = threading.Event()

    def place(self, fault: Fault) -> Any:
        """BLOCKS."""
        said = super().place(fault)
        self.thawed.wait()
        return said


class SetTime:
    """A wall clock that stands where it is put."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class ToldReporter(Reporter):
    """Notes each case. What it is told to return, or to raise, it does, once each; `picky` wants only raises."""

    name = "told"
    summary = "For tests"
    acts = False

    def __init__(self, options: Any = None, now: Callable[[], datetime] | None = None) -> None:
        self.cases: list[Case] = []
        self.answers: list[Any] = []
        self.picky = False

    def wants(self, change: Change, fault: Fault) -> bool:
        return change is Change.RAISED or not self.picky

    def deliver(self, case: Case) -> Outcome:
        self.cases.append(case)
        answer: Any = self.answers.pop(0) if self.answers else Done()
        if isinstance(answer, BaseException):
            raise answer
        outcome: Outcome = answer
        return outcome


class FlakyRecords:
    """Records whose database is away for the first calls; then each notification has the same outcome."""

    def __init__(self, away: int = 0, error: Exception | None = None) -> None:
        self.away = away
        self.error = error
        self.taken: list[Any] = []

    def take(self, fault: Fault, _now: float) -> str:
        self._fail()
        self.taken.append(fault)
        return "new"

    def heard(self, sign: Any, _now: float) -> bool:
        self._fail()
        self.taken.append(sign)
        return True

    def _fail(self) -> None:
        if self.away:
            self.away -= 1
            raise self.error or Away("no route")


# -- for the masakari reporter: lines, Nova and Masakari ---------------------------------------------------------------


class ToldLine:
    """A fault's place in lines: `others` has who is ahead, by line; `mine` the lines in which it has its turn, and for
    how long. While `away`, nothing can be written down."""

    def __init__(self) -> None:
        self.others: dict[str, str] = {}
        self.mine: dict[str, float] = {}
        self.away = False

    def ahead(self, name: str) -> str | None:
        return self.others.get(name)

    def enter(self, name: str, seconds: float) -> str | None:
        if name not in self.others:
            self.mine.setdefault(name, seconds)
        return self.others.get(name)

    def leave(self, name: str) -> bool:
        if not self.away:
            self.mine.pop(name, None)
        return not self.away


class ToldClouds:
    """Says what it is told to say, and notes what is posted. What is in `raises[name]` it raises, once each."""

    def __init__(self, server: Server | None = None) -> None:
        self.said_server = server
        self.known: list[Notification] = []
        self.posts: list[tuple[str, str, tuple[str, str]]] = []
        self.raises: dict[str, list[Exception]] = {}
        self.closed = False

    def server(self, uuid: str) -> Server | None:
        self._asked("server")
        return self.said_server

    def notifications(self, instance_uuid: str, since: datetime) -> list[Notification]:
        self._asked("notifications")
        return [one for one in self.known if one.instance_uuid == instance_uuid and one.generated_at >= since]

    def post(self, host: str, instance_uuid: str, event: tuple[str, str], generated_at: datetime) -> str:
        self._asked("post")
        self.posts.append((host, instance_uuid, event))
        name = f"n{len(self.known) + 1}"
        self.known.append(Notification(name, instance_uuid, event, generated_at, "new"))
        return name

    def progress(self, notification: str) -> Notification | None:
        self._asked("progress")
        return next((one for one in self.known if one.uuid == notification), None)

    def becomes(self, status: str, *messages: str) -> None:
        """The newest notification."""
        self.known[-1] = replace(self.known[-1], status=status, messages=messages)

    def check(self, seconds: float) -> None:
        self._asked("check")

    def close(self) -> None:
        self.closed = True

    def _asked(self, name: str) -> None:
        if self.raises.get(name):
            raise self.raises[name].pop(0)
