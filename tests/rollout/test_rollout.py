"""From hosts that know nothing of us to a guest that is recovered, by one playbook; and from one release to the next,
with faults at every step of the way."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from openstack.exceptions import BadRequestException

from tests.cloud.site import NODES
from tests.cloud.stage import Server, Stage
from tests.cloud.story import STEPS, Story
from tests.conftest import Figure
from tests.rollout.hosts import CONTROL, Rollout

#: The commit before there were roles, database steps and packages; and what there is now.
BEFORE, NOW = "0.9.0", "1.0.0"
RELEASES = {BEFORE: "a49b3f5", NOW: ""}
#: Seconds from a fault to its guest's recovery, hosts being upgraded meanwhile.
AT_LEISURE = 600.0


def _release(version: str) -> dict[str, object]:
    versions = dict.fromkeys(("vmhb_install_version", "vmhb_hooks_version", "vmhb_masakari_version"), version)
    return {**versions, "vmhb_consumer_keystone_once": version != BEFORE}


@pytest.fixture
def rollout(request: pytest.FixtureRequest) -> Iterator[Rollout]:
    """Hosts without us."""
    with Rollout(getattr(request, "param", {NOW: ""})) as one:
        yield one


def _boot(stage: Stage, name: str, node: str) -> Server:
    server = stage.boot(name, node=node)
    server.wait_beats()
    return server


def _recovered(rollout: Rollout, server: Server, began: float, figure: Figure, what: str) -> None:
    """Once, and not twice."""
    story = Story(server, began, rollout.tell)
    story.follow(AT_LEISURE, started="start")
    for step in STEPS:
        figure(f"rollout: {what} → {step}", story.seconds(step), "s")
    story.assert_recovered("start")


def test_one_playbook_brings_all_in(rollout: Rollout, figure: Figure) -> None:
    """nova-api checks flavors, guests of both nodes are heard, one hangs and is recovered; and a second run changes
    nothing."""
    began = time.monotonic()
    rollout.play()
    figure("rollout: one playbook", time.monotonic() - began, "s")
    stage = rollout.furnish()
    flavor = stage.api.compute.create_flavor(name="nonsense", ram=64, vcpus=1, disk=0)
    with pytest.raises(BadRequestException, match="heartbeat"):
        stage.api.compute.create_flavor_extra_specs(flavor, {"hw:heartbeat": "perhaps"})
    servers = [_boot(stage, f"server-{node}", node) for node in NODES]
    _recovered(rollout, servers[0], servers[0].hang_agent(), figure, "agent hangs")
    assert servers[1].faults() == []
    assert rollout.play().changed == ()


@pytest.mark.parametrize("rollout", [RELEASES], indirect=True, ids=["from the release before"])
def test_no_fault_is_lost_by_an_upgrade(rollout: Rollout, figure: Figure) -> None:
    """On node1 the worker comes first, on node2 the consumer; the database's step is in between. A guest hangs right
    before each step, so that what is known of it has to outlive that."""
    first, second = NODES
    rollout.play(**_release(BEFORE))
    stage = rollout.furnish()
    servers = {node: _boot(stage, f"server-{node}", node) for node in NODES}

    began = servers[first].hang_agent()
    rollout.play("--limit", first, **_release(NOW))
    _recovered(rollout, servers[first], began, figure, "worker first")

    began = servers[second].hang_agent()
    rollout.play("--limit", f"rabbit,maria,{CONTROL}", **_release(NOW))
    _recovered(rollout, servers[second], began, figure, "consumer first")

    late = _boot(stage, "late", second)
    began = late.hang_agent()
    rollout.play("--limit", second, **_release(NOW))
    _recovered(rollout, late, began, figure, "worker last")
    assert rollout.play(**_release(NOW)).changed == ()
