"""Does QEMU's main thread stand still?"""

from __future__ import annotations

import pytest

from vmhb_worker.core.main_thread import MainThread, Standstill

IDLE_IN = ["do_sys_poll", "poll_schedule_timeout.constprop.0", "do_poll", "ep_poll", "do_epoll_wait"]
BLOCKED_IN = ["futex_wait_queue", "do_freezer_trap", "unix_stream_read_generic", "nbd_ioctl"]


@pytest.mark.parametrize(
    ("main", "held_up"),
    [
        *((MainThread(state, 1), True) for state in "DTtZXxKWP"),
        *((MainThread(state, 1), False) for state in "RSI"),
        *((MainThread("S", 1, function), False) for function in IDLE_IN),
        *((MainThread("S", 1, function), True) for function in BLOCKED_IN),
        (MainThread("R", 1, "futex_wait_queue"), False),
    ],
)
def test_who_is_held_up(main: MainThread, held_up: bool) -> None:
    """Neither who runs nor who waits for work; where it is not known what it waits for, that it sleeps is no proof."""
    assert main.held_up is held_up


@pytest.mark.parametrize("state", "RSIDTtZXxKWP")
def test_who_does_not_go_on_for_sure(state: str) -> None:
    """By one look: stopped, traced, or dead. Any other may go on at once."""
    assert MainThread(state, 1).stopped is (state in "TtZXx")


@pytest.mark.parametrize(
    ("looks", "seconds"),
    [
        (["T7", "T7", "T7"], [0.0, 1.0, 2.0]),
        (["S5", "T7", "T7"], [0.0, 0.0, 1.0]),
        (["T7", "T9", "T9"], [0.0, 0.0, 1.0]),  # it went on, and was stopped again
        (["T7", "S7", "T8", "T8"], [0.0, 0.0, 0.0, 1.0]),
        (["D7", "D7", "D7"], [0.0, 1.0, 2.0]),
        (["D7", "D9", "D11", "D11"], [0.0, 0.0, 0.0, 0.0]),  # it reads, and reads: the last may be one more
        (["D7", "D9", "D9", "D9"], [0.0, 0.0, 0.0, 1.0]),
        (["D7", "R7", "D7"], [0.0, 0.0, 0.0]),
        (["S7", "S7", "S7"], [0.0, 0.0, 0.0]),  # asleep for want of work, for all that is known
        (["R7", "R7", "R7"], [0.0, 0.0, 0.0]),  # busy
    ],
)
def test_for_how_long_it_has_stood_still(looks: list[str], seconds: list[float]) -> None:
    """Looked at once a second: from the look on that found it so first, and only while it has not gone on since."""
    standstill = Standstill()
    seen = [standstill.seen(MainThread(look[0], int(look[1:])), float(second)) for second, look in enumerate(looks)]
    assert seen == seconds


def test_what_is_not_seen_any_more_does_not_stand() -> None:
    """And counts from the beginning when it is seen again."""
    standstill = Standstill()
    standstill.seen(MainThread("T", 1), 0.0)
    assert standstill.stands
    standstill.unseen()
    assert not standstill.stands
    assert standstill.seen(MainThread("T", 1), 9.0) == 0.0
    assert standstill.stands
