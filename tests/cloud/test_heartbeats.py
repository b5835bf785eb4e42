"""From a flavor to heartbeats, and what is said when they stay away: no fault is delivered to anybody here."""

from __future__ import annotations

import time

import pytest

from tests.cloud import catalogue
from tests.cloud.cloud import OUR_DRIVER, STOCK_DRIVER
from tests.cloud.conftest import Boot
from tests.cloud.stage import DETECTION, Stage
from tests.conftest import Figure

AGENT_CHANNEL = "org.qemu.guest_agent.0"


def test_flavor_to_first_heartbeat(boot: Boot, figure: Figure) -> None:
    """The flavor is all that an operator sets: the image says nothing of an agent."""
    server = boot("monitored", catalogue.PLAIN)
    beat = server.first_beat()
    figure("cloud: server asked for → ACTIVE", server.active_at - server.asked_at, "s")
    figure("cloud: ACTIVE → first heartbeat", beat.at - server.active_at, "s", limit=60)
    assert beat.host == "node1"
    assert beat.project_id == server.now.project_id
    assert server.now.name == beat.display_name
    assert server.beats()
    assert server.faults() == []


def test_a_flavor_that_makes_no_sense_is_refused(stage: Stage) -> None:
    """By nova-api, in words that help: our validators are there."""
    flavor = stage.api.compute.find_flavor("plain")
    with pytest.raises(Exception, match=r"hw:heartbeat_interval is '0': say a number of seconds"):
        stage.api.compute.create_flavor_extra_specs(flavor, {"hw:heartbeat_interval": "0"})
    with pytest.raises(Exception, match="heartbeat_intervall"):
        stage.api.compute.create_flavor_extra_specs(flavor, {"hw:heartbeat_intervall": "1"})


@pytest.mark.long
def test_a_silent_flavor_gets_nothing(boot: Boot) -> None:
    """Neither a channel nor a worker's attention."""
    server = boot("plain", catalogue.PLAIN)
    xml = server.virsh("dumpxml", server.domain_id())
    assert AGENT_CHANNEL not in xml
    assert "urn:openstack:vmhb" not in xml
    time.sleep(5)
    assert server.show().get("state") in (None, "unmonitored")


def test_agent_hangs(stage: Stage, boot: Boot, figure: Figure) -> None:
    """A fault, with its cause, on RabbitMQ; and cleared as recovered when it goes on."""
    server = boot("watched")
    server.wait_beats()
    hung = server.hang_agent(12)
    raised = stage.notifications.wait_fault("raised", server.uuid, 30, since=hung)
    figure("cloud: agent hangs → fault on RabbitMQ", raised.at - hung, "s", limit=DETECTION)
    told = stage.notifications.wait_fault("updated", server.uuid, 10, since=raised.at, cause="agent_unresponsive")
    assert (told.recommended_action, told.fault_id) == ("alarm", raised.fault_id)
    assert told.host == server.node
    cleared = stage.notifications.wait_fault("cleared", server.uuid, 30, since=raised.at)
    assert (cleared.resolution, cleared.fault_id) == ("recovered", raised.fault_id)
    assert server.actions() == ["create"]


@pytest.mark.long
def test_agent_killed(stage: Stage, boot: Boot) -> None:
    """An alarm and no more, although the flavor would have even the unresponsive recovered: the machine lives."""
    server = boot("monitored")
    server.wait_beats()
    killed = server.kill_agent()
    raised = stage.notifications.wait_fault("raised", server.uuid, 180, since=killed)
    assert (raised.cause, raised.recommended_action) == ("agent_exited", "alarm")
    time.sleep(5)
    assert not any("recover" in said for said in server.faults(killed))
    assert server.actions() == ["create"]


@pytest.mark.long
def test_level_0(stage: Stage, boot: Boot) -> None:
    """The stock driver: what Nova writes of the flavor is enough, for an image that says that it has the agent."""
    stage.use_driver("node1", STOCK_DRIVER)
    try:
        server = boot("monitored", catalogue.AGENT, node="node1")
        assert "urn:openstack:vmhb:1" not in server.virsh("dumpxml", server.domain_id())
        server.first_beat()
        hung = server.hang_agent()
        raised = stage.notifications.wait_fault("raised", server.uuid, 30, since=hung)
        assert raised.at - hung <= DETECTION
    finally:
        stage.use_driver("node1", OUR_DRIVER)
