"""Two lanes for agent requests."""

from __future__ import annotations

import math
import random

from vmhb_worker.core.agent_lanes import CROWD, CROWDED_AFTER, Lanes, Request
from vmhb_worker.core.events import Pace


def ask(uuid: str, pace: Pace = Pace.QUICK, timeout: float = 1.0) -> Request:
    return Request(uuid, libvirt_timeout=4, timeout=timeout, pace=pace)


def admitted(lanes: Lanes, now: float) -> list[str]:
    return [request.uuid for request in lanes.admit(now)]


def with_requests(*requests: Request, workers: int = 2, slow_workers: int = 2) -> Lanes:
    lanes = Lanes(workers, slow_workers)
    for request in requests:
        lanes.submit(request)
    return lanes


def test_the_fast_lane_starts_as_many_as_it_has_workers_in_order() -> None:
    """First come, first served; the rest waits for a place."""
    lanes = with_requests(ask("a"), ask("b"), ask("c"))
    assert admitted(lanes, 0.0) == ["a", "b"]
    assert (lanes.running, lanes.waiting) == (2, 1)
    finished = lanes.finished("a")
    assert finished is not None
    assert finished.uuid == "a"
    assert admitted(lanes, 0.1) == ["c"]
    assert not lanes.busy("a")
    assert lanes.busy("b")
    assert lanes.busy("c")


def test_a_request_that_outlives_its_timeout_makes_room_in_the_fast_lane() -> None:
    """From then on it counts against the slow lane: the living do not wait for it."""
    lanes = with_requests(ask("hung"), ask("hung too"), ask("well"))
    admitted(lanes, 0.0)
    assert lanes.deadline() == 1.0
    assert admitted(lanes, 0.9) == []
    assert admitted(lanes, 1.0) == ["well"]
    assert lanes.running == 3
    assert lanes.busy("hung")
    assert lanes.finished("hung") is not None


def test_nobody_is_moved_into_a_slow_lane_that_is_full() -> None:
    """Both lanes together never exceed their sum: each request holds a thread of libvirtd, which Nova needs too."""
    lanes = with_requests(*(ask(f"hung {n}") for n in range(4)), ask("well"))
    assert admitted(lanes, 0.0) == ["hung 0", "hung 1"]
    assert admitted(lanes, 1.0) == ["hung 2", "hung 3"]
    assert admitted(lanes, 2.0) == []
    assert lanes.deadline() == math.inf  # nothing can be done before one of them ends
    lanes.finished("hung 0")
    assert lanes.deadline() == 2.0
    assert admitted(lanes, 2.0) == ["well"]


def test_there_is_no_deadline_while_nobody_waits() -> None:
    """An overdue request is moved only when its place is wanted: no wake-up for nothing."""
    lanes = with_requests(ask("a"))
    assert lanes.deadline() == math.inf  # none has started
    admitted(lanes, 0.0)
    assert lanes.deadline() == math.inf
    lanes.submit(ask("b", timeout=5.0))
    admitted(lanes, 0.0)
    lanes.submit(ask("c"))
    assert lanes.deadline() == 1.0


def test_known_silent_ones_leave_half_of_the_slow_lane_to_suspects() -> None:
    """A suspect that is known to be slow never queues behind those that are already judged."""
    silent = [ask(f"silent {n}", Pace.SILENT) for n in range(9)]
    lanes = with_requests(*silent, slow_workers=4)
    assert admitted(lanes, 0.0) == ["silent 0", "silent 1"]
    lanes.submit(ask("suspect", Pace.SUSPECT))
    assert admitted(lanes, 0.0) == ["suspect"]
    assert (lanes.running, lanes.waiting) == (3, 7)


def test_one_place_is_kept_for_the_silent() -> None:
    """However many answer slowly or hang: the end of a silence is noticed, and its fault is cleared."""
    lanes = with_requests(slow_workers=2, workers=1)
    lanes.submit(ask("slow 0", Pace.SLOW))
    assert admitted(lanes, 0.0) == ["slow 0"]
    lanes.submit(ask("silent", Pace.SILENT))
    lanes.submit(ask("suspect", Pace.SUSPECT))
    lanes.submit(ask("slow 1", Pace.SLOW))
    assert admitted(lanes, 0.0) == ["silent"]
    lanes.finished("slow 0")
    assert admitted(lanes, 1.0) == ["suspect"]
    lanes.finished("silent")
    assert admitted(lanes, 2.0) == ["slow 1"]


def test_suspects_take_half_of_the_fast_lane_where_the_slow_one_is_full() -> None:
    """The slow ones of a host do not keep its hangs from being found; nor do its hangs hold up those that answer."""
    lanes = with_requests(ask("slow 0", Pace.SLOW), ask("slow 1", Pace.SLOW), workers=4)
    admitted(lanes, 0.0)
    for number in range(4):
        lanes.submit(ask(f"suspect {number}", Pace.SUSPECT))
        lanes.submit(ask(f"well {number}"))
    lanes.withdraw("well 2")
    lanes.withdraw("well 3")
    assert admitted(lanes, 0.0) == ["well 0", "well 1"]
    lanes.finished("well 0")
    assert admitted(lanes, 0.1) == ["suspect 0"]
    lanes.finished("well 1")
    assert admitted(lanes, 0.2) == ["suspect 1"]
    assert admitted(lanes, 0.3) == []
    lanes.submit(ask("well 4"))
    assert admitted(lanes, 0.4) == ["well 4"]


def test_a_request_that_goes_on_is_not_put_back() -> None:
    """libvirt gives up before the time-out is over: the second part of one request follows the first at once."""
    lanes = with_requests(*(ask(f"suspect {n}", Pace.SUSPECT) for n in range(4)), workers=1, slow_workers=1)
    assert admitted(lanes, 0.0) == ["suspect 0"]
    lanes.finished("suspect 0")
    lanes.submit(ask("suspect 0", Pace.SUSPECT))
    assert admitted(lanes, 10.0) == ["suspect 0"]
    lanes.finished("suspect 0")
    assert admitted(lanes, 15.0) == ["suspect 1"]
    lanes.submit(ask("suspect 0", Pace.SUSPECT))
    lanes.finished("suspect 1")
    assert admitted(lanes, 20.0) == ["suspect 2"]


def test_silent_ones_get_a_turn_even_with_a_single_slow_worker() -> None:
    """However narrow the lanes, one that was judged is found well again some day."""
    lanes = with_requests(ask("silent", Pace.SILENT), workers=1, slow_workers=1)
    assert admitted(lanes, 0.0) == ["silent"]


def test_a_request_can_be_withdrawn_until_it_starts() -> None:
    """A silence begins: whoever still waits is not asked at all."""
    lanes = with_requests(ask("a"), ask("b", Pace.SUSPECT), ask("c", Pace.SILENT), ask("d", Pace.SLOW))
    assert [lanes.withdraw(uuid) for uuid in "abcd"] == [True, True, True, True]
    assert not lanes.withdraw("a")
    assert admitted(lanes, 0.0) == []
    lanes.submit(ask("a"))
    admitted(lanes, 0.0)
    assert not lanes.withdraw("a")


def test_a_request_that_is_unknown_finishes_quietly() -> None:
    """Its instance was dropped meanwhile."""
    assert with_requests().finished("a") is None


def test_ten_that_hang_together_all_start_within_two_timeouts_and_a_request() -> None:
    """DESIGN 9: ten going silent together are found within twice the time of one."""
    lanes = with_requests(*(ask(f"{n}") for n in range(10)), workers=4, slow_workers=4)
    ends: list[tuple[float, str]] = []
    started: dict[str, float] = {}
    for tenth in range(100):
        now = tenth / 10
        for end, uuid in list(ends):
            if end <= now:
                lanes.finished(uuid)
                ends.remove((end, uuid))
        for uuid in admitted(lanes, now):
            started[uuid] = now
            ends.append((now + 4.0, uuid))
        assert lanes.running <= 8
    assert len(started) == 10
    assert max(started.values()) <= 4.0


def test_whatever_is_asked_both_lanes_keep_their_bounds() -> None:
    """Never more than workers + slow_workers on their way, and nobody waits for ever."""
    dice = random.Random(1)
    lanes = Lanes(4, 4)
    running: dict[str, float] = {}
    waiting: set[str] = set()
    for step in range(5000):
        now = step / 10
        for uuid in [uuid for uuid, end in running.items() if end <= now]:
            lanes.finished(uuid)
            del running[uuid]
        uuid = f"{dice.randrange(60)}"
        if uuid not in running and uuid not in waiting:
            lanes.submit(ask(uuid, dice.choice(list(Pace))))
            waiting.add(uuid)
        elif uuid in waiting and dice.random() < 0.1 and lanes.withdraw(uuid):
            waiting.remove(uuid)
        for uuid in admitted(lanes, now):
            waiting.remove(uuid)
            running[uuid] = now + dice.choice((0.01, 0.01, 0.5, 5.0))
        assert lanes.running == len(running) <= 8
        assert lanes.waiting == len(waiting)
    for step in range(5000, 10000):
        now = step / 10
        for uuid in [uuid for uuid, end in running.items() if end <= now]:
            lanes.finished(uuid)
            del running[uuid]
        for uuid in admitted(lanes, now):
            running[uuid] = now + 5.0
    assert (lanes.running, lanes.waiting) == (0, 0)


def test_those_who_wait_for_long_among_many_are_told_of_once() -> None:
    """Three that wait are no crowd, nor are four that have just begun to; each of their challenges counts once."""
    slow = [ask(f"slow {n}", Pace.SLOW) for n in range(2)]
    lanes = with_requests(*slow, *(ask(f"hung {n}", timeout=60.0) for n in range(2)))
    lanes.admit(0.0)
    for number in range(CROWD - 1):
        lanes.submit(ask(f"early {number}"))
    lanes.submit(Request("command", 3, 3.0, Pace.QUICK, command="{}"))
    lanes.admit(10.0)
    assert lanes.deadline() == math.inf
    assert lanes.crowded(20.0) == []
    lanes.submit(ask("last"))
    lanes.admit(20.0)
    assert lanes.deadline() == 20.0 + CROWDED_AFTER
    assert lanes.crowded(20.0 + CROWDED_AFTER - 0.1) == []
    assert lanes.crowded(20.0 + CROWDED_AFTER) == ["early 0", "early 1", "early 2", "last"]
    assert lanes.crowded(30.0) == []
    assert lanes.deadline() == math.inf
    lanes.submit(ask("another"))
    lanes.admit(30.0)
    assert lanes.deadline() == 30.0 + CROWDED_AFTER
    assert lanes.crowded(31.0) == ["another"]


def test_who_is_known_to_be_silent_is_not_told_that_it_waits() -> None:
    """Its host has been asked. It counts all the same: whoever waits behind such a crowd is told."""
    waiting = [ask(f"silent {number}", Pace.SILENT) for number in range(5)]
    lanes = with_requests(ask("hung", timeout=60.0), *waiting, workers=1, slow_workers=1)
    lanes.admit(0.0)
    assert lanes.crowded(60.0) == []
    lanes.submit(ask("new"))
    lanes.admit(60.0)
    assert lanes.crowded(60.0 + CROWDED_AFTER) == ["new"]


def test_one_that_gives_way_is_asked_after_the_others() -> None:
    """It has not lost its turn for good: the silent have places of their own."""
    lanes = with_requests(ask("hung", timeout=60.0), *(ask(name) for name in "abc"), workers=1, slow_workers=1)
    lanes.admit(0.0)
    lanes.give_way("a")
    lanes.give_way("unknown")
    lanes.finished("hung")
    assert sorted(admitted(lanes, 1.0)) == ["a", "b"]  # in the slow lane, and in the fast one
    lanes.finished("b")
    assert admitted(lanes, 2.0) == ["c"]
