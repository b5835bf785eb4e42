"""The XML that the driver makes: of any flavor and any image, beside the stock driver's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import pytest
from lxml import etree
from nova.version import version_string
from nova.virt.libvirt import config

from nova_vmhb import driver, guest_config
from nova_vmhb import wanted_policy as asked
from tests.nova import samples
from tests.nova.cloud import INSTANCE, OURS, STOCK, ComputeNode, channels, elements, running
from vmhb_common.model.policy import KNOBS, POLICY_NS, PORT_NAMES, Action, Channel, HeartbeatPolicy, as_knobs, parse
from vmhb_worker.core import domain_xml

AGENT = PORT_NAMES[Channel.AGENT]
APPLICATION = PORT_NAMES[Channel.APPLICATION]
AGENT_PATH = f"/var/lib/libvirt/qemu/{AGENT}.instance-00000001.sock"

ON = {"hw:heartbeat": "true"}
ON_APPLICATION = {**ON, "hw:heartbeat_channel": "application"}
ELEMENT = f"{{{POLICY_NS}}}heartbeat"


@pytest.fixture(scope="module")
def node() -> Iterator[ComputeNode]:
    """A compute node."""
    with running(ComputeNode()) as node:
        yield node


def policy(xml: str) -> HeartbeatPolicy | None:
    """What the worker makes of this XML."""
    knobs = domain_xml.read(xml).asked
    return None if knobs is None else parse(knobs).policy


def test_nova_loads_our_driver(node: ComputeNode) -> None:
    """By the name that goes into nova.conf, with Nova's own loader, through the shim."""
    assert type(node.driver(OURS)) is driver.VmhbLibvirtDriver
    assert type(node.driver(OURS)).__module__ == "nova_vmhb.driver"


@pytest.mark.parametrize("name", samples.FLAVORS)
def test_the_samples_are_what_the_driver_makes(node: ComputeNode, name: str) -> None:
    """The functional tests boot real guests from them. To write them anew: see tests/nova/samples.py."""
    if version_string() != samples.RELEASE:
        pytest.skip(f"they are of Nova {samples.RELEASE}")
    assert samples.make(node, name) == (samples.FOLDER / name).read_text()


# -- a flavor that does not ask ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "extra_specs",
    [
        {},
        {"hw:watchdog_action": "reset", "hw_rng:allowed": "true"},
        {"hw:heartbeat": "false"},
        {"hw:heartbeat": "no", "hw:heartbeat_interval": "soon"},
        {"hw:heartbeat_interval": "5"},
        {"heartbeat": "true", "quota:heartbeat": "true", "hw:heartbeats": "true"},
    ],
)
@pytest.mark.parametrize(
    "image",
    [
        {},
        {"hw_qemu_guest_agent": "yes"},
        {"hw_heartbeat": "true", "hw_heartbeat_channel": "application", "hw_heartbeat_interval": "60"},
        {"hw_heartbeat": "false", "hw_qemu_guest_agent": "yes"},
    ],
)
def test_a_silent_flavor(node: ComputeNode, extra_specs: Mapping[str, str], image: Mapping[str, str]) -> None:
    """Byte for byte what the stock driver makes, whatever the image says: an image opts nobody in."""
    assert node.xml(OURS, extra_specs, image) == node.xml(STOCK, extra_specs, image)


def test_the_database_is_left_alone(node: ComputeNode) -> None:
    """A silent flavor does not make Nova load the instance's metadata."""
    instance = mock.Mock(spec_set=())
    node.driver(OURS)._add_heartbeat(None, mock.Mock(extra_specs={"hw:cpu_policy": "shared"}), instance)


# -- a flavor that asks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", [{}, {"hw_qemu_guest_agent": "yes"}, {"hw_qemu_guest_agent": "no"}])
def test_channels(node: ComputeNode, image: Mapping[str, str]) -> None:
    """The agent's channel as Nova writes it, once, and before ours, which has no path of its own."""
    assert channels(node.xml(OURS, ON, image)) == [(AGENT, AGENT_PATH)]
    assert channels(node.xml(OURS, ON_APPLICATION, image)) == [(AGENT, AGENT_PATH), (APPLICATION, None)]


def test_the_rest_is_stock(node: ComputeNode) -> None:
    """Without what we add, it is byte for byte what the stock driver makes."""
    image = {"hw_qemu_guest_agent": "yes"}
    xml = node.xml(OURS, ON_APPLICATION, image)
    for added in (
        f'    <vmhb:heartbeat xmlns:vmhb="{POLICY_NS}" version="1" heartbeat="true" channel="application"/>\n',
        f'    <channel type="unix">\n      <target type="virtio" name="{APPLICATION}"/>\n    </channel>\n',
    ):
        assert xml.count(added) == 1
        xml = xml.replace(added, "")
    assert xml == node.xml(STOCK, ON_APPLICATION, image)


def test_the_element_and_nothing_else(node: ComputeNode) -> None:
    """It stands beside Nova's own."""
    nova, ours = elements(node.xml(OURS, ON))
    assert nova == f"{{{domain_xml.NOVA_NS}}}instance"
    assert ours == ELEMENT
    assert elements(node.xml(STOCK, ON)) == [nova]


@pytest.mark.parametrize(
    "extra_specs",
    [
        ON,
        {"hw:heartbeat": "Yes"},
        ON_APPLICATION,
        {**ON, "hw:heartbeat_interval": "2.5", "hw:heartbeat_timeout": "1", "hw:heartbeat_threshold": "5"},
        {**ON, "hw:heartbeat_grace": "0", "hw:heartbeat_health_check": "true"},
        {**ON, "hw:heartbeat_action": "recover_unresponsive"},
        {**ON, "hw:heartbeat_panic_device": "Yes"},
        {**ON, "hw:heartbeat_shade": "green"},  # of a newer worker, perhaps
        {**ON, "hw:heartbeat_action": "<'\"&> Ünïcode"},
    ],
)
def test_what_was_asked_is_what_is_read(node: ComputeNode, extra_specs: Mapping[str, str]) -> None:
    """The worker reads in our element what the flavor says, no more and no less, in the flavor's own words."""
    asked_for = {name.removeprefix("hw:heartbeat_").removeprefix("hw:"): value for name, value in extra_specs.items()}
    assert domain_xml.read(node.xml(OURS, extra_specs)).asked == asked_for


def test_round_trip(node: ComputeNode) -> None:
    """Every knob there is, from a policy through a flavor and a domain back to the policy."""
    wanted = HeartbeatPolicy(True, Channel.APPLICATION, 0.5, 0.25, 7, 30.0, True, Action.RECOVER, True)
    knobs = as_knobs(wanted)
    assert set(knobs) == {knob.name for knob in KNOBS}
    xml = node.xml(OURS, {knob.extra_spec: knobs[knob.name] for knob in KNOBS})
    assert policy(xml) == wanted


def test_nonsense_reaches_the_worker(node: ComputeNode, caplog: pytest.LogCaptureFixture) -> None:
    """A flavor that makes no sense gets no channel, and its words go where the worker can say what is wrong."""
    xml = node.xml(OURS, {**ON, "hw:heartbeat_interval": "soon"})
    assert channels(xml) == []
    asked_for = domain_xml.read(xml).asked
    assert asked_for is not None
    assert "say a number of seconds" in str(parse(asked_for).error)
    assert "will not be monitored: hw:heartbeat_interval is 'soon'" in caplog.text


# -- a panic device ------------------------------------------------------------------------------------------------

PANIC = {**ON, "hw:heartbeat_panic_device": "true"}
ON_X86 = '    <panic model="isa"/>\n'


def test_a_panic_device_is_added_where_the_flavor_asks(node: ComputeNode) -> None:
    """Nothing else changes by it, and nobody else gets one."""
    xml = node.xml(OURS, PANIC)
    assert xml.count(ON_X86) == xml.count("<panic") == 1
    without = node.xml(OURS, {**ON, "hw:heartbeat_panic_device": "false"})
    words = "panic_device"  # of the flavor, which our element and Nova's own repeat
    assert [line for line in xml.replace(ON_X86, "").splitlines() if words not in line] == [
        line for line in without.splitlines() if words not in line
    ]
    for flavor in (ON, {"hw:heartbeat_panic_device": "true"}, {**PANIC, "hw:heartbeat": "false"}):
        assert "<panic" not in node.xml(OURS, flavor)
    assert "<panic" not in node.xml(OURS, PANIC, {"hw_heartbeat": "false"})


def test_a_panic_device_that_is_there_is_left_alone(node: ComputeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Nova that comes to give guests one, or another driver between us and it."""
    stock = node.driver(OURS)._add_qga_device

    def with_one(guest: Any, instance: Any) -> None:
        guest.add_device(guest_config.PanicDevice("hyperv"))
        stock(guest, instance)

    monkeypatch.setattr(node.driver(OURS), "_add_qga_device", with_one)
    xml = node.xml(OURS, PANIC)
    assert [panic.get("model") for panic in etree.fromstring(xml).iter("panic")] == ["hyperv"]


@pytest.mark.parametrize(
    ("arch", "newer", "model", "says"),
    [
        ("aarch64", True, "pvpanic", ""),
        ("aarch64", False, None, "for aarch64 it takes libvirt 9.1.0"),
        ("s390x", True, None, ""),
        ("riscv64", True, None, "none is known for riscv64"),
    ],
)
def test_a_panic_device_fits_its_guest(
    node: ComputeNode,
    arch: str,
    newer: bool,
    model: str | None,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By the architecture that Nova writes into the domain. A host that has none says why, once."""
    ours = node.driver(OURS)
    monkeypatch.setattr(type(ours), "_without_panic_device", set())
    monkeypatch.setattr(ours, "_host", mock.Mock(has_min_version=lambda lv_ver: newer))
    for _ in range(2):
        guest = config.LibvirtConfigGuest()
        guest.os_arch = arch
        ours._add_panic_device(guest)
        assert [device.model for device in guest.devices] == ([model] if model else [])
    records = [record for record in caplog.records if record.name == "nova_vmhb.driver"]
    assert len(records) == bool(says)
    assert all(says in record.getMessage() for record in records)


# -- what an image may say -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", [{}, {"hw_qemu_guest_agent": "yes"}])
def test_an_image_opts_out(node: ComputeNode, image: Mapping[str, str]) -> None:
    """No channel of ours; and it is said, since Nova itself puts the flavor's wish into the domain."""
    xml = node.xml(OURS, ON_APPLICATION, {**image, "hw_heartbeat": "false"})
    assert channels(xml) == channels(node.xml(STOCK, ON_APPLICATION, image))
    said = policy(xml)
    assert said is not None
    assert not said.heartbeat


@pytest.mark.parametrize(("flavor", "image"), [("agent", "application"), ("application", "agent")])
def test_an_image_chooses_the_channel(node: ComputeNode, flavor: str, image: str) -> None:
    """Who wrote the image knows what runs in it."""
    xml = node.xml(OURS, {**ON, "hw:heartbeat_channel": flavor}, {"hw_heartbeat_channel": image})
    said = policy(xml)
    assert said is not None
    assert said.channel == image
    assert (APPLICATION in dict(channels(xml))) == (image == "application")
    assert channels(xml)[0] == (AGENT, AGENT_PATH)


def test_an_image_lengthens_and_never_shortens(node: ComputeNode, caplog: pytest.LogCaptureFixture) -> None:
    """Times, and nothing else. What is ignored is logged, with the instance."""
    flavor = {**ON, "hw:heartbeat_interval": "10", "hw:heartbeat_grace": "300"}
    image = {"hw_heartbeat_interval": "30", "hw_heartbeat_grace": "5", "hw_heartbeat_action": "recover"}
    assert domain_xml.read(node.xml(OURS, flavor, image)).asked == {
        "heartbeat": "true",
        "interval": "30",
        "grace": "300",
    }
    assert "hw_heartbeat_grace is ignored: 5 s is shorter than 300 s" in caplog.text
    assert "hw_heartbeat_action" in caplog.text


def test_the_image_of_a_rescue_has_no_say(node: ComputeNode) -> None:
    """The policy is the instance's own, whatever it is rescued with."""
    xml = node.xml(OURS, ON, {"hw_heartbeat_channel": "application"}, rescue_image={"hw_heartbeat": "false"})
    assert channels(xml) == [(AGENT, AGENT_PATH), (APPLICATION, None)]


# -- when we fail --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", ["asked", "HeartbeatElement", "UnplacedChannel", "PanicDevice"])
@pytest.mark.parametrize("error", [RuntimeError, ImportError, KeyError])
def test_an_error_of_ours(
    node: ComputeNode,
    failing: str,
    error: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The guest is as the stock driver makes it, and the log names the instance."""

    def fail(*arguments: Any) -> None:
        raise error("ours")

    monkeypatch.setattr(driver, failing, fail)
    flavor = {**ON_APPLICATION, **PANIC}
    assert node.xml(OURS, flavor) == node.xml(STOCK, flavor)
    (record,) = (record for record in caplog.records if record.name == "nova_vmhb.driver")
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    assert record.__dict__["instance"].uuid == INSTANCE


def test_text_that_xml_cannot_carry(node: ComputeNode, caplog: pytest.LogCaptureFixture) -> None:
    """Is found before Nova writes the XML, which would fail the spawn. (In a flavor's extra specs Nova's own would.)"""
    with mock.patch.object(driver, "asked", return_value=asked.Asked({"heartbeat": "\x01"}, (Channel.AGENT,))):
        assert node.xml(OURS, ON) == node.xml(STOCK, ON)
    assert "ValueError" in caplog.text


def test_an_error_of_the_stock_driver_is_its_own(node: ComputeNode) -> None:
    """We hide no failure that Nova would have had without us."""
    with (
        mock.patch("nova.virt.libvirt.driver.LibvirtDriver._set_qemu_guest_agent", side_effect=OSError("stock")),
        pytest.raises(OSError, match="stock"),
    ):
        node.xml(OURS, ON)
