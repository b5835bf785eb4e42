"""What may block for ever is waited for so long, and no longer."""

from __future__ import annotations

import threading
import time

import pytest

from vmhb_common.messaging.limited import Limited, NoEnd


def test_what_comes_of_it_in_time() -> None:
    """Its value, None among them, or its error: the caller sees no difference."""
    within = Limited("it", 10.0)
    assert within(lambda: 7) == 7
    assert within(lambda: None) is None
    with pytest.raises(ValueError, match="nothing"):
        within(lambda: int("nothing"))


def test_what_does_not_end() -> None:
    """It is left to itself, and said by its name and limit."""
    began = time.monotonic()
    with pytest.raises(NoEnd, match=r"^no end of a call within 0\.1 s$"):
        Limited("a call", 0.1)(threading.Event().wait)
    assert time.monotonic() - began < 2.0


def test_no_more_wait_than_may() -> None:
    """Where so many wait, the next is not begun, nor waits longer; once one has ended there is room."""
    within, over, begun = Limited("a call", 0.1, most=2), threading.Event(), []

    def blocked() -> None:
        begun.append(1)
        over.wait()

    for _ in range(2):
        with pytest.raises(NoEnd, match="no end"):
            within(blocked)
    with pytest.raises(NoEnd, match="is not begun: 2 wait already"):
        within(blocked)
    assert len(begun) == 2
    over.set()
    assert Limited("more", 10.0)(lambda: 1) == 1
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            assert within(lambda: 3) == 3
            return
        except NoEnd:
            continue
    pytest.fail("there is no room")


def test_room_while_it_waits() -> None:
    """What finds no room at first is begun where room comes before its own limit."""
    within, over = Limited("a call", 5.0, most=1), threading.Event()
    first = threading.Thread(target=lambda: within(over.wait))
    first.start()
    threading.Timer(0.1, over.set).start()
    assert within(lambda: 3) == 3
    first.join(10)
