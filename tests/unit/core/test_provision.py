"""What a running domain lacks, and whether it can have it."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from vmhb_worker.core.domain_xml import DomainView, policy_element, read
from vmhb_worker.core.events import PlugChannel, WritePolicy
from vmhb_worker.core.policy import POLICY_NS, Channel, HeartbeatPolicy, parse
from vmhb_worker.core.provision import NAME_TAKEN, NO_CONTROLLER, lacks, missing

WISH = {"heartbeat": "true", "interval": "2"}
OURS = f"<vmhb:heartbeat xmlns:vmhb='{POLICY_NS}' version='1' interval='9'/>"
NOVA = "<n:instance xmlns:n='http://openstack.org/xmlns/libvirt/nova/1.1'><n:flavor name='f'>{}</n:flavor></n:instance>"
SPECS = "<n:extraSpecs>{}</n:extraSpecs>"
SPEC = "<n:extraSpec name='hw:heartbeat'>true</n:extraSpec>"
CONTROLLER = "<controller type='virtio-serial' index='0'/>"
AGENT = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
PORT = "<channel type='{}'><target type='virtio' name='org.openstack.vmhb.0'/></channel>"

APPLICATION = HeartbeatPolicy(heartbeat=True, channel=Channel.APPLICATION)
AGENT_HEALTH = HeartbeatPolicy(heartbeat=True, health_check=True)
OFF = HeartbeatPolicy(channel=Channel.APPLICATION)


def domain(metadata: str = "", devices: str = CONTROLLER + AGENT) -> DomainView:
    return read(f"<domain><uuid>u</uuid><metadata>{metadata}</metadata><devices>{devices}</devices></domain>")


@pytest.mark.parametrize("metadata", ["", NOVA.format(""), "<x:heartbeat xmlns:x='urn:somebody'/>"])
def test_a_domain_that_says_nothing_is_given_the_policy_that_was_sent(metadata: str) -> None:
    """Nova before 2025.2 tells nothing of a flavor's extra specs."""
    assert missing(domain(metadata), parse({}).policy, WISH) == WritePolicy(policy_element(WISH))
    assert missing(domain(metadata), parse({}).policy, None) is None


@pytest.mark.parametrize(
    "metadata",
    [OURS, NOVA.format(SPECS.format(SPEC)), NOVA.format(SPECS.format("")), OURS + NOVA.format(SPECS.format(SPEC))],
    ids=["ours", "Nova's", "Nova's without a heartbeat", "both"],
)
def test_a_domain_that_speaks_for_itself_is_left_alone(metadata: str) -> None:
    """Our element first, then what Nova says of the flavor; where that has no heartbeat, a wish for one is outdated."""
    view = domain(metadata)
    assert view.decided
    assert missing(view, parse(view.asked or {}).policy, WISH) is None


@pytest.mark.parametrize(
    ("policy", "devices", "found"),
    [
        (APPLICATION, CONTROLLER + AGENT, PlugChannel()),
        (APPLICATION, CONTROLLER, PlugChannel()),
        (APPLICATION, CONTROLLER + AGENT + PORT.format("unix"), None),
        (APPLICATION, CONTROLLER + PORT.format("pty"), NAME_TAKEN),
        (APPLICATION, "<controller type='usb'/>", NO_CONTROLLER),
        (AGENT_HEALTH, CONTROLLER + AGENT, None),
        (AGENT_HEALTH, "", None),
        (OFF, CONTROLLER + AGENT, None),
        (None, CONTROLLER + AGENT, None),
    ],
)
def test_the_channel_is_missing_where_the_policy_wants_it(
    policy: HeartbeatPolicy | None, devices: str, found: object
) -> None:
    """Plugged in where there is something to plug it into and its name is free; else said, with a remedy."""
    assert missing(domain(OURS, devices), policy, None) == found


def test_the_policy_comes_first() -> None:
    """It may take back what the operator's default asks for."""
    assert isinstance(missing(domain(), APPLICATION, WISH), WritePolicy)
    assert missing(domain(), APPLICATION, None) == PlugChannel()


def test_what_is_there_is_not_lacked() -> None:
    """Asked of the live description right before the step, and of the defined one; whatever kind of channel it is."""
    write, plug = WritePolicy(policy_element(WISH)), PlugChannel()
    assert lacks(domain(), write) and not lacks(domain(OURS), write)
    assert lacks(domain(), plug) and not lacks(domain(devices=PORT.format("pty")), plug)


def test_the_element_says_what_was_sent_in_its_own_words() -> None:
    """Also what makes no sense here, so that the worker says so; but no name that can't be that of a knob in XML."""
    sent = {
        **WISH,
        "colour": "<'blue'>\"&",
        "threshold": "many",
        "Bad-Name": "x",
        "xmlns": "y",
        "version": "7",
        "": "z",
    }
    element = ElementTree.fromstring(policy_element(sent))
    assert element.tag == "heartbeat"
    assert element.attrib == {"version": "1", **WISH, "colour": "<'blue'>\"&", "threshold": "many"}
    # libvirt puts it into the namespace
    written = policy_element(sent).replace("<heartbeat ", f"<vmhb:heartbeat xmlns:vmhb='{POLICY_NS}' ", 1)
    assert domain(written).asked == {**WISH, "colour": "<'blue'>\"&", "threshold": "many"}
