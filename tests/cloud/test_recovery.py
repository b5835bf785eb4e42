"""The mission: a guest that is dead runs again, nobody having touched it, and its heartbeat proves it."""

from __future__ import annotations

import time

import pytest

from tests.cloud.conftest import Boot
from tests.cloud.stage import QUIET, Server
from tests.cloud.story import ACTIVE, ASKED, CLEARED, FINISHED, POSTED, RAISED, Story
from tests.conftest import Figure

#: Figures, in the order in which it happens.
SHOWN = (RAISED, ASKED, POSTED, ACTIVE, CLEARED, FINISHED)


def _recovered(server: Server, began: float, figure: Figure, what: str) -> Story:
    """Follow it to its end: once, and not twice."""
    story = Story(server, began)
    story.follow()
    for step in SHOWN:
        figure(f"cloud: {what} → {step}", story.seconds(step), "s")
    assert story.resolution == "recovered"
    server.assert_quiet(story.at[CLEARED] + 0.01, QUIET)
    assert server.beats(), server.show()
    assert len(story.masakari) == 1
    assert [one for one in server.actions() if one in ("start", "reboot")] == ["start"]
    return story


def test_agent_hangs(boot: Boot, figure: Figure) -> None:
    """Flavor, heartbeat, hang, fault, Masakari, ACTIVE, heartbeat, cleared as recovered."""
    server = boot("monitored")
    server.wait_beats()
    story = _recovered(server, server.hang_agent(), figure, "agent hangs")
    assert story.seconds(RAISED) <= 4.5


@pytest.mark.long
def test_kernel_panics(boot: Boot, figure: Figure) -> None:
    """Nova gives no panic device, so it is the balloon that tells."""
    server = boot("monitored")
    server.wait_beats()
    time.sleep(15)  # the balloon must have answered once
    _recovered(server, server.panic(), figure, "kernel panics")


@pytest.mark.long
def test_qemu_killed(boot: Boot, figure: Figure) -> None:
    """Nova notices too, and powers it off; Masakari starts it again, once."""
    server = boot("monitored")
    server.wait_beats()
    _recovered(server, server.kill_qemu(), figure, "QEMU killed")
