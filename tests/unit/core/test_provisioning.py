"""What a running domain lacks, and whether it can have it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from xml.etree import ElementTree

import pytest

from vmhb_common.model.policy import POLICY_NS, Channel, HeartbeatPolicy, parse
from vmhb_worker.core.domain_xml import DomainView, policy_element, read
from vmhb_worker.core.events import PlugChannel, WritePolicy
from vmhb_worker.core.pending_policies import Wish
from vmhb_worker.core.provisioning import NAME_TAKEN, NO_CONTROLLER, lacks, missing

UUID = "11111111-1111-4111-8111-111111111111"
NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
KNOBS = {"heartbeat": "true", "interval": "2"}
WISH = Wish(KNOBS, NOON)
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
    return read(f"<domain><uuid>{UUID}</uuid><metadata>{metadata}</metadata><devices>{devices}</devices></domain>")


def as_written(knobs: dict[str, str], observed_at: datetime) -> str:
    """What libvirt makes of our element: it puts it into the namespace."""
    return policy_element(knobs, observed_at).replace("<heartbeat ", f"<vmhb:heartbeat xmlns:vmhb='{POLICY_NS}' ", 1)


@pytest.mark.parametrize("metadata", ["", NOVA.format(""), "<x:heartbeat xmlns:x='urn:somebody'/>"])
def test_a_domain_that_says_nothing_is_given_the_policy_that_was_sent(metadata: str) -> None:
    """Nova before 2025.2 tells nothing of a flavor's extra specs."""
    assert missing(domain(metadata), parse({}).policy, WISH) == WritePolicy(policy_element(KNOBS, NOON), NOON)
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


@pytest.mark.parametrize("more", ["", NOVA.format(SPECS.format(SPEC))], ids=["alone", "beside Nova's"])
def test_what_was_sent_is_replaced_by_what_is_newer(more: str) -> None:
    """A resize sends another flavor; the older one, which comes late, must not stay, nor win after a restart."""
    earlier, later = NOON - timedelta(microseconds=1), NOON + timedelta(microseconds=1)
    view = domain(as_written({"interval": "9"}, NOON) + more)
    assert view.decided and view.observed_at == NOON
    assert view.asked == {"heartbeat": "true", "interval": "9"}
    write = missing(view, parse(view.asked).policy, Wish(KNOBS, later))
    assert write == WritePolicy(policy_element(KNOBS, later), later)
    assert lacks(view, write)
    for when in (earlier, NOON):
        assert missing(view, parse(view.asked).policy, Wish(KNOBS, when)) is None
        assert not lacks(view, WritePolicy("", when))


@pytest.mark.parametrize("when", ["", "noon", "2026-01-31T12:00:00", "9999-12-31T23:59:59-14:00", "2026-13-01"])
def test_a_time_that_makes_no_sense_is_not_ours(when: str) -> None:
    """Then somebody else wrote it, and it is left alone; it is no knob either."""
    view = domain(OURS.replace("interval='9'", f"interval='9' observed_at='{when}'"))
    assert view.observed_at is None
    assert view.asked == {"heartbeat": "true", "interval": "9"}
    assert missing(view, parse(view.asked).policy, WISH) is None


def test_the_policy_comes_first() -> None:
    """It may take back what the operator's default asks for."""
    assert isinstance(missing(domain(), APPLICATION, WISH), WritePolicy)
    assert missing(domain(), APPLICATION, None) == PlugChannel()


def test_what_is_there_is_not_lacked() -> None:
    """Asked of the live description right before the step, and of the defined one; whatever kind of channel it is."""
    write, plug = WritePolicy(policy_element(KNOBS, NOON), NOON), PlugChannel()
    assert lacks(domain(), write) and not lacks(domain(OURS), write)
    assert lacks(domain(), plug) and not lacks(domain(devices=PORT.format("pty")), plug)


def test_the_element_says_what_was_sent_in_its_own_words() -> None:
    """Also what makes no sense here, so that the worker says so; but no name that can't be that of a knob in XML."""
    sent = {
        **KNOBS,
        "colour": "<'blue'>\"&",
        "threshold": "many",
        "Bad-Name": "x",
        "xmlns": "y",
        "version": "7",
        "observed_at": "never",
        "": "z",
    }
    element = ElementTree.fromstring(policy_element(sent, NOON))
    assert element.tag == "heartbeat"
    assert element.attrib == {
        "version": "1",
        "observed_at": NOON.isoformat(),
        **KNOBS,
        "colour": "<'blue'>\"&",
        "threshold": "many",
    }
    assert domain(as_written(sent, NOON)).asked == {**KNOBS, "colour": "<'blue'>\"&", "threshold": "many"}
