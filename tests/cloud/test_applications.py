"""Servers on the application channel: their applications answer for themselves, and say how they are."""

from __future__ import annotations

import time

import pytest

from tests.cloud import catalogue
from tests.cloud.conftest import Boot
from tests.cloud.deeds import do_unnoticed
from tests.cloud.stage import DETECTION, PATIENCE, Server, Stage
from tests.cloud.story import RAISED, STEPS, Story
from tests.conftest import Figure
from tests.lab.application import Application
from tests.lab.processes import wait_until
from tests.stage.consumer import Notification

pytestmark = pytest.mark.long

#: What an application says of itself is in the answer to the next challenge, three of which make a fault.
TOLD = DETECTION


def _checks(server: Server) -> dict[str, str]:
    """How its applications are, by name, as the worker last heard it."""
    report = (server.show().get("health") or {}).get("report") or {"checks": []}
    return {check["name"]: check["status"] for check in report["checks"]}


def _joined(server: Server, name: str, **options: float) -> Application:
    """An application in it that has joined vmhb-guest; where health is asked for, the worker has heard of it."""
    application = Application(server, name, **options)
    application.start()
    if server.show()["policy"]["health_check"] == "true":
        wait_until(lambda: _checks(server).get(name) == "healthy", PATIENCE, f"{name} is in the report", every=0.2)
    return application


def _untouched(server: Server) -> None:
    """Nobody was asked to do anything to it, and nobody did."""
    assert server.reports() == []
    assert server.actions() == ["create"]


def _cleared(stage: Stage, raised: Notification, since: float) -> Notification:
    cleared = stage.notifications.wait_fault("cleared", raised.instance_uuid, 30, since=since)
    assert (cleared.fault_id, cleared.resolution) == (raised.fault_id, "recovered")
    return cleared


def test_an_application_says_how_it_is(stage: Stage, boot: Boot, figure: Figure) -> None:
    """The flavor alone gives it the channel; what is unhealthy is named, with its reason, and is an alarm."""
    server = boot("application", catalogue.APPLICATION)
    beat = server.first_beat()
    figure("cloud: application channel: ACTIVE → first heartbeat", beat.at - server.active_at, "s", limit=60)
    assert beat.channel == "application"
    server.wait_beats()
    billing = _joined(server, "billing")
    said = billing.say("unhealthy", "disk full")
    raised = stage.notifications.wait_fault("raised", server.uuid, 30, since=said)
    figure("cloud: application says unhealthy → fault on RabbitMQ", raised.at - said, "s", limit=TOLD)
    assert (raised.cause, raised.recommended_action) == ("application_unhealthy", "alarm")
    assert raised.reason.endswith("billing: disk full")
    said = billing.say("healthy")
    cleared = _cleared(stage, raised, said)
    figure("cloud: application says healthy → cleared", cleared.at - said, "s", limit=TOLD)
    killed = billing.kill()
    raised = stage.notifications.wait_fault("raised", server.uuid, 30, since=killed)
    figure("cloud: application killed → fault on RabbitMQ", raised.at - killed, "s", limit=TOLD)
    assert raised.cause == "application_unhealthy"
    assert "billing: ended without STOPPING=1" in raised.reason
    _cleared(stage, raised, billing.start())
    _untouched(server)


def test_a_silent_application_is_told_from_a_dead_guest(stage: Stage, boot: Boot, figure: Figure) -> None:
    """vmhb-guest stands still: its machine lives, and is left alone."""
    server = boot("application", catalogue.APPLICATION)
    server.wait_beats()
    stopped = server.deed("killall -STOP vmhb-guest")
    raised = stage.notifications.wait_fault("raised", server.uuid, 30, since=stopped)
    figure("cloud: vmhb-guest stops → fault on RabbitMQ", raised.at - stopped, "s", limit=DETECTION)
    told = stage.notifications.wait_for(
        "the cause, when the agent was asked",
        lambda one: one.instance_uuid == server.uuid and one.data.get("cause") == "application_unresponsive",
        10,
        stopped,
    )
    figure("cloud: vmhb-guest stops → its cause is known", told.at - stopped, "s")
    assert (told.channel, told.recommended_action, told.fault_id) == ("application", "alarm", raised.fault_id)
    _cleared(stage, raised, server.deed("killall -CONT vmhb-guest"))
    _untouched(server)


def test_a_dead_guest_is_told_from_a_silent_application(boot: Boot, figure: Figure) -> None:
    """Neither vmhb-guest nor the agent nor the kernel answers: the same flavor has that recovered.

    Not in the test above: a kernel is looked at once in a minute (`probe_interval`), and that was just done there.
    """
    server = boot("application", catalogue.APPLICATION)
    server.wait_beats()
    wait_until(lambda: bool(server.show().get("balloon_answers")), PATIENCE, "its balloon answers", every=0.5)
    story = Story(server, server.panic())
    story.follow()
    for step in STEPS:
        figure(f"cloud: kernel panics, application channel → {step}", story.seconds(step), "s")
    story.assert_recovered()
    assert story.causes[-1] == "guest_hung"
    assert server.show()["policy"]["channel"] == "application"


def test_a_hung_application_is_recovered(boot: Boot, figure: Figure) -> None:
    """Where the flavor says so, and asks for no health: then vmhb-guest is silent for whoever feeds no watchdog."""
    server = boot("application-recovered", catalogue.APPLICATION)
    server.wait_beats()
    billing = _joined(server, "billing", watchdog=5)
    time.sleep(2)
    story = Story(server, billing.hang())
    story.follow()
    for step in STEPS:
        figure(f"cloud: application hangs, watchdog 5 s → {step}", story.seconds(step), "s")
    story.assert_recovered()
    assert story.seconds(RAISED) <= 5 + 5 / 3 + DETECTION
    assert set(story.causes) == {"application_unresponsive"}


@pytest.mark.parametrize("deed", ["stop, start", "soft reboot", "hard reboot", "live migration there and back"])
def test_planned(stage: Stage, boot: Boot, figure: Figure, deed: str) -> None:
    """No fault, though its application dies with the boot, and nobody says so; and it beats where it runs then."""
    server = boot("application", catalogue.APPLICATION)
    server.wait_beats()
    _joined(server, "billing")
    do_unnoticed(stage, server, deed, figure, f"cloud: application channel: {deed}")
    assert _checks(server) == ({"billing": "healthy"} if "migration" in deed else {})
