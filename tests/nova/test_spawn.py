"""A whole Nova, from a flavor and an image to the XML that libvirt gets, and what another of either makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from unittest import mock

import pytest

from nova_vmhb import driver
from tests.nova.cloud import TwoHosts, channels, elements, running
from vmhb_common.model.policy import POLICY_NS, PORT_NAMES, Channel
from vmhb_worker.core import domain_xml

ON = {"hw:heartbeat": "true"}
ON_APPLICATION = {**ON, "hw:heartbeat_channel": "application", "hw:heartbeat_interval": "0.5"}
BOTH = [PORT_NAMES[Channel.AGENT], PORT_NAMES[Channel.APPLICATION]]
ELEMENT = f"{{{POLICY_NS}}}heartbeat"


@pytest.fixture(scope="module")
def cloud() -> Iterator[TwoHosts]:
    """Two compute nodes."""
    with running(TwoHosts()) as cloud:
        yield cloud


def names(xml: str) -> list[str]:
    """Its channels."""
    return [name for name, _ in channels(xml)]


def asked(xml: str) -> Mapping[str, str] | None:
    """What the worker reads in it; our element is there once."""
    assert elements(xml).count(ELEMENT) == 1
    return domain_xml.read(xml).asked


def is_stock(xml: str) -> bool:
    """Nothing in it is ours."""
    return not channels(xml) and ELEMENT not in elements(xml)


def test_spawn(cloud: TwoHosts) -> None:
    """The flavor alone: the image says nothing, and has no word about an agent."""
    xml = cloud.xml(cloud.server(ON_APPLICATION))
    assert names(xml) == BOTH
    assert asked(xml) == {"heartbeat": "true", "channel": "application", "interval": "0.5"}
    assert elements(xml)[0] == f"{{{domain_xml.NOVA_NS}}}instance"


def test_a_silent_flavor(cloud: TwoHosts) -> None:
    """Nothing, whatever the image says."""
    assert is_stock(cloud.xml(cloud.server({}, {"hw_heartbeat": "true", "hw_heartbeat_channel": "application"})))


def test_an_image_has_its_say(cloud: TwoHosts) -> None:
    """Its properties come all the way from Glance, although Nova's objects do not know them."""
    xml = cloud.xml(cloud.server(ON, {"hw_heartbeat_channel": "application", "hw_heartbeat_interval": "60"}))
    assert names(xml) == BOTH
    assert asked(xml) == {"heartbeat": "true", "channel": "application", "interval": "60"}
    xml = cloud.xml(cloud.server(ON, {"hw_heartbeat": "no"}))
    assert names(xml) == []
    assert asked(xml) == {"heartbeat": "false"}


def test_a_failure_of_ours_fails_no_spawn(
    cloud: TwoHosts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The guest boots without us, and the log names it."""
    monkeypatch.setattr(driver, "asked", mock.Mock(side_effect=RuntimeError("ours")))
    server = cloud.server(ON_APPLICATION)
    assert server["status"] == "ACTIVE"
    assert is_stock(cloud.xml(server))
    record = next(record for record in caplog.records if record.name == "nova_vmhb.driver")
    assert record.__dict__["instance"].uuid == server["id"]


def test_rebuild_with_another_image(cloud: TwoHosts) -> None:
    """The policy is that of the flavor and the image that it now has."""
    server = cloud.server(ON, {"hw_heartbeat_channel": "application"})
    assert names(cloud.xml(server)) == BOTH
    cloud.rebuild(server, cloud.image({}))
    xml = cloud.xml(server)
    assert names(xml) == BOTH[:1]
    assert asked(xml) == {"heartbeat": "true"}
    cloud.rebuild(server, cloud.image({"hw_heartbeat": "false"}))
    assert asked(cloud.xml(server)) == {"heartbeat": "false"}
    cloud.rebuild(server, cloud.image({"hw_heartbeat_grace": "0"}))
    assert asked(cloud.xml(server)) == {"heartbeat": "true", "grace": "0"}


def test_resize_out_of_monitoring_and_into_it(cloud: TwoHosts) -> None:
    """The new flavor decides. To another policy, and back: test_planned."""
    server = cloud.server(ON, {"hw_heartbeat_channel": "application"})
    cloud.xml(server)
    cloud.resize(server, cloud.flavor({}, memory=2048))
    assert is_stock(cloud.xml(server))
    cloud.confirm(server)
    cloud.resize(server, cloud.flavor(ON, memory=1024))
    xml = cloud.xml(server)
    assert names(xml) == BOTH
    assert asked(xml) == {"heartbeat": "true", "channel": "application"}
