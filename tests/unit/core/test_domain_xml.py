"""What a domain's XML tells."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmhb_common.model.fault import Identity
from vmhb_common.model.policy import Channel, parse
from vmhb_worker.core.domain_xml import Port, Travelled, read, state_element
from vmhb_worker.core.evidence import System

UUID = "9f3c4a52-0d3e-4b1e-8f1b-6a7f0a1c2d3e"

NOVA = """\
    <{p}:instance xmlns:{p}="http://openstack.org/xmlns/libvirt/nova/1.1">
      <{p}:package version="32.0.0"/>
      <{p}:name>web &lt;1&gt;</{p}:name>
      <{p}:creationTime>2026-05-04 10:20:30</{p}:creationTime>
      <{p}:flavor name="m1.small" id="42">
        <{p}:memory>2048</{p}:memory>
        <{p}:vcpus>1</{p}:vcpus>
        {specs}
      </{p}:flavor>
      <{p}:image uuid="155d900f-4e14-4e4c-a73d-069cbf4541e6">
        <{p}:properties><{p}:property name="hw_heartbeat_interval">60</{p}:property></{p}:properties>
      </{p}:image>
      <{p}:owner>
        <{p}:user uuid="admin-id">admin</{p}:user>
        <{p}:project uuid="6f70656e737461636b20342065766572">demo</{p}:project>
      </{p}:owner>
      <{p}:root type="image" uuid="155d900f-4e14-4e4c-a73d-069cbf4541e6"/>
      <{p}:ports/>
    </{p}:instance>
"""
OURS = "    <vmhb:heartbeat xmlns:vmhb='urn:openstack:vmhb:1' version='1' interval='2' action='recover'/>\n"
AGENT = """\
    <channel type='unix'>
      <source mode='bind' path='/var/lib/libvirt/qemu/org.qemu.guest_agent.0.instance-000000a1.sock'/>
      <target type='virtio' name='org.qemu.guest_agent.0'{state}/>
      <alias name='channel0'/>
      <address type='virtio-serial' controller='0' bus='0' port='1'/>
    </channel>
"""
APPLICATION = """\
    <channel type='unix'>
      <target type='virtio' name='org.openstack.vmhb.0' state='disconnected'/>
      <alias name='channel1'/>
    </channel>
"""
BALLOON = "    <memballoon model='virtio'><stats period='10'/></memballoon>\n"


def extra_specs(prefix: str, **specs: str) -> str:
    inner = "".join(
        f'<{prefix}:extraSpec name="hw:{name}">{value}</{prefix}:extraSpec>' for name, value in specs.items()
    )
    return f"<{prefix}:extraSpecs>{inner}</{prefix}:extraSpecs>"


def nova(prefix: str = "nova", **specs: str) -> str:
    return NOVA.format(p=prefix, specs=extra_specs(prefix, **specs) if specs else "")


def domain(metadata: str = "", devices: str = "") -> str:
    return f"""\
<domain type='kvm' id='5'>
  <name>instance-000000a1</name>
  <uuid>{UUID}</uuid>
  <metadata>
{metadata}  </metadata>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <serial type='pty'><target type='isa-serial' port='0'/></serial>
    <channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>
{devices}  </devices>
</domain>
"""


@pytest.mark.parametrize("prefix", ["nova", "instance", "ns0"])
def test_a_flavors_extra_specs_are_found_by_namespace(prefix: str) -> None:
    """Nova changes its own prefix when it rewrites its element: only the namespace counts."""
    view = read(domain(nova(prefix, heartbeat="true", heartbeat_interval="5", cpu_policy="dedicated")))
    assert view.asked == {"heartbeat": "true", "interval": "5"}
    assert view.who == Identity(UUID, "instance-000000a1", "web <1>", "6f70656e737461636b20342065766572", "m1.small")


def test_both_of_novas_namespaces_are_read() -> None:
    """A guest that an older Nova started keeps 1.0. Whose it is, is told there as well."""
    new = nova(heartbeat="true", heartbeat_interval="5")
    old = new.replace("/nova/1.1", "/nova/1.0")
    assert old != new
    assert read(domain(old)) == read(domain(new))
    assert read(domain(old)).who.project_id == "6f70656e737461636b20342065766572"
    assert read(domain(old.replace("/nova/1.0", "/nova/2.0"))).who == Identity(UUID, "instance-000000a1")


def test_the_newer_of_novas_elements_counts() -> None:
    """libvirt replaces what has the same namespace only: an upgraded Nova may leave the old one beside its own."""
    old, new = nova(heartbeat="true", heartbeat_interval="5").replace("/nova/1.1", "/nova/1.0"), nova(heartbeat="true")
    for both in (old + new, new + old):
        assert read(domain(both)).asked == {"heartbeat": "true"}


def test_our_own_element_comes_first() -> None:
    """The driver hook knows more than the flavor: the image's say, and the operator's."""
    view = read(domain(nova(heartbeat="true", heartbeat_interval="5") + OURS))
    assert view.asked == {"heartbeat": "true", "interval": "2", "action": "recover"}
    assert view.who.display_name == "web <1>"


def test_our_element_may_take_the_wish_back() -> None:
    """An image that opts out of what its flavor opts into."""
    off = "<x:heartbeat xmlns:x='urn:openstack:vmhb:1' version='1' heartbeat='false'/>"
    asked = read(domain(nova(heartbeat="true") + off)).asked
    assert asked is not None
    policy = parse(asked).policy
    assert policy is not None
    assert not policy.heartbeat


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        nova(),
        nova(cpu_policy="dedicated"),
        "<heartbeat interval='2'/>",
        "<nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.0'/>",
    ],
)
def test_nobody_asked(metadata: str) -> None:
    """No element of ours, no heartbeat among the extra specs, or Nova before 2025.2: not monitored, and no error."""
    assert read(domain(metadata)).asked is None


def test_a_domain_of_somebody_else_has_a_name_at_least() -> None:
    """Not every domain on a host is Nova's."""
    view = read(f"<domain><uuid>{UUID}</uuid><name>pet</name></domain>")
    assert view.who == Identity(UUID, "pet")
    assert (view.asked, view.ports, view.balloon_period, view.travelled) == (None, {}, None, Travelled())


def test_a_nova_element_with_nothing_in_it() -> None:
    """What it does not tell is unknown, not an error."""
    view = read(domain("<n:instance xmlns:n='http://openstack.org/xmlns/libvirt/nova/1.1'/>"))
    assert view.who == Identity(UUID, "instance-000000a1")


@pytest.mark.parametrize(
    ("state", "is_open"), [(" state='connected'", True), (" state='disconnected'", False), ("", None)]
)
def test_the_ports_and_whether_the_guest_holds_them_open(state: str, is_open: bool | None) -> None:
    """The live XML says so; the defined one says nothing."""
    view = read(domain(devices=AGENT.format(state=state) + APPLICATION))
    path = "/var/lib/libvirt/qemu/org.qemu.guest_agent.0.instance-000000a1.sock"
    assert view.ports == {
        Channel.AGENT: Port(path, is_open, "channel0"),
        Channel.APPLICATION: Port(None, False, "channel1"),
    }


def test_channels_are_told_by_their_names() -> None:
    """The first channel is not the agent's, a serial one is none of ours, and of two with one name the first counts."""
    strangers = """\
    <channel type='unix'><target type='virtio' name='org.example.other'/></channel>
    <channel type='unix'><target type='guestfwd' address='10.0.2.1' port='4600'/></channel>
    <channel type='pty'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <channel type='unix'><target type='virtio'/></channel>
"""
    bare = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel>"
    view = read(domain(devices=strangers + bare + AGENT.format(state=" state='disconnected'")))
    assert view.ports == {Channel.AGENT: Port(None, True, None)}


@pytest.mark.parametrize(
    ("balloon", "period"),
    [
        ("", None),
        ("<memballoon model='none'/>", None),
        ("<memballoon/>", None),
        ("<memballoon model='virtio'/>", 0),
        ("<memballoon model='virtio'><stats/></memballoon>", 0),
        ("<memballoon model='virtio'><stats period='often'/></memballoon>", 0),
        (BALLOON, 10),
    ],
)
def test_the_balloons_period(balloon: str, period: int | None) -> None:
    """None: there is no balloon to ask; 0: it reports nothing by itself, and can be told to."""
    assert read(domain(devices=balloon)).balloon_period == period


@pytest.mark.parametrize(
    "fault_id", ["f-1", "", "'/><x y='", UUID + "0", UUID.replace("1", "١"), "{" + UUID + "}", "urn:uuid:" + UUID, "\n"]
)
def test_only_a_uuid_is_a_faults_id(fault_id: str) -> None:
    """Another host wrote it: it is taken for nothing else, and nothing that is written makes another element of it."""
    element = state_element(True, fault_id).replace("<state ", "<s:state xmlns:s='urn:openstack:vmhb:state:1' ")
    assert read(domain(element)).travelled == Travelled(True, None)


@pytest.mark.parametrize("period", ["soon", "-5", "٣", "9" * 5000, ""])
def test_a_period_that_is_none(period: str) -> None:
    """libvirt would not write it: the domain is watched all the same."""
    balloon = f"<memballoon model='virtio'><stats period='{period}'/></memballoon>"
    assert read(domain(devices=balloon)).balloon_period == 0


@pytest.mark.parametrize(("established", "fault_id"), [(True, None), (False, None), (True, UUID)])
def test_what_travels_with_a_migration_is_read_back(established: bool, fault_id: str | None) -> None:
    """In a namespace of its own, into which libvirt puts it, so that it never shadows a policy."""
    element = state_element(established, fault_id).replace("<state ", "<s:state xmlns:s='urn:openstack:vmhb:state:1' ")
    view = read(domain(nova(heartbeat="true") + element))
    assert view.travelled == Travelled(established, fault_id)
    assert view.asked == {"heartbeat": "true"}


def test_policy_that_makes_no_sense_is_an_error_of_that_instance_alone() -> None:
    """The XML is fine; the words are not; the error names them."""
    asked = read(domain(nova(heartbeat="true", heartbeat_threshold="lots"))).asked
    assert asked is not None
    assert parse(asked).error == "hw:heartbeat_threshold is 'lots': say a whole number, 1 to 100"


@pytest.mark.parametrize(
    "xml",
    [
        "",
        "no xml",
        "<domain>",
        "<domain/>",
        "<domain><uuid/></domain>",
        f"<network><uuid>{UUID}</uuid></network>",
        "<domain><uuid>\x00</uuid></domain>",
        "<domain><uuid>\ud800</uuid></domain>",
        "<!DOCTYPE d [<!ENTITY a 'aaaaaaaa'><!ENTITY b '&a;&c;'>]><domain><uuid>&b;</uuid></domain>",
    ],
)
def test_what_is_no_domain_is_refused(xml: str) -> None:
    """With a ValueError, which costs this instance its monitoring and nobody else anything."""
    with pytest.raises(ValueError, match=r".+"):
        read(xml)


TAGS = [
    *("domain", "uuid", "name", "metadata", "devices", "channel", "target", "source", "alias", "memballoon", "stats"),
    *("n:instance", "n:flavor", "n:extraSpecs", "n:extraSpec", "n:owner", "n:project", "v:heartbeat", "s:state"),
]
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["name", "type", "state", "period", "model", "version", "established", "fault_id", "uuid"]),
    st.sampled_from(["", "virtio", "unix", "org.qemu.guest_agent.0", "connected", "true", "-1", "²", "hw:heartbeat"]),
    max_size=3,
)
TREES: st.SearchStrategy[Any] = st.recursive(
    st.tuples(st.sampled_from(TAGS), ATTRIBUTES, st.just([]), st.sampled_from(["", UUID, "\u0663"])),
    lambda inner: st.tuples(st.sampled_from(TAGS), ATTRIBUTES, st.lists(inner, max_size=4), st.just("")),
    max_leaves=12,
)


def written(tree: tuple[str, dict[str, str], list[object], str]) -> str:
    tag, attributes, children, text = tree
    inner = "".join(written(child) for child in children)  # type: ignore[arg-type]
    told = " ".join(f"{name}='{value}'" for name, value in attributes.items())
    return f"<{tag} {told}>{text}{inner}</{tag}>"


@settings(derandomize=True, max_examples=150, deadline=None)
@given(TREES)
def test_no_shape_of_xml_raises_anything_but_value_error(
    tree: tuple[str, dict[str, str], list[object], str],
) -> None:
    """libvirt checked its grammar; what stands in it may be anybody's."""
    namespaces = (
        "xmlns:n='http://openstack.org/xmlns/libvirt/nova/1.1' xmlns:v='urn:openstack:vmhb:1' "
        "xmlns:s='urn:openstack:vmhb:state:1'"
    )
    with contextlib.suppress(ValueError):
        read(f"<domain {namespaces}><uuid>{UUID}</uuid><metadata>{written(tree)}</metadata>{written(tree)}</domain>")


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.text())
def test_no_text_raises_anything_but_value_error(text: str) -> None:
    """A truncated answer, a file of something else."""
    with contextlib.suppress(ValueError):
        read(text)
    with contextlib.suppress(ValueError):
        read(domain(text))


@pytest.mark.parametrize(
    ("source", "rescued"),
    [
        ("file='/var/lib/nova/instances/9d1f/disk'", False),
        ("file='/var/lib/nova/instances/9d1f/disk.config'", False),
        ("file='/var/lib/nova/instances/9d1f/disk.rescue'", True),
        ("dev='/dev/nova/9d1f_disk.rescue'", True),
        ("protocol='rbd' name='vms/9d1f_disk.rescue'", True),
        ("file='/var/lib/nova/instances/disk.rescue/disk'", False),
    ],
)
def test_rescue_mode(source: str, rescued: bool) -> None:
    """Told by the name of a disk, in each of Nova's backends."""
    disk = f"<disk type='file'><source {source}/></disk>"
    view = read(f"<domain><uuid>{UUID}</uuid><devices><disk/>{disk}</devices></domain>")
    assert view.rescued is rescued


def image_property(name: str, value: str) -> str:
    return nova().replace('name="hw_heartbeat_interval">60', f'name="{name}">{value}')


OSINFO = (
    "    <libosinfo:libosinfo xmlns:libosinfo='http://libosinfo.org/xmlns/libvirt/domain/1.0'>"
    "<libosinfo:os id='http://{maker}/x/1'/></libosinfo:libosinfo>\n"
)
HYPERV = "  </devices>\n  <features><acpi/><hyperv mode='custom'><relaxed state='on'/></hyperv></features>\n"


@pytest.mark.parametrize(
    ("metadata", "features", "system"),
    [
        (image_property("os_type", "linux"), "", System.LINUX),
        (image_property("os_distro", "ubuntu"), "", System.LINUX),
        (image_property("os_type", "windows"), "", System.WINDOWS),
        (image_property("os_distro", "freebsd"), "", System.OTHER),
        (nova(), HYPERV, System.WINDOWS),
        (image_property("os_type", "linux"), HYPERV, System.LINUX),
        (OSINFO.format(maker="debian.org"), "", System.LINUX),
        (OSINFO.format(maker="microsoft.com"), "", System.WINDOWS),
        (nova(), "", None),
        ("", "", None),
    ],
)
def test_what_runs_in_it(metadata: str, features: str, system: System | None) -> None:
    """The image's word goes before what is read off the domain; where nobody says, it is not known."""
    xml = domain(metadata)
    xml = xml.replace("  </devices>\n", features) if features else xml
    assert read(xml).system is system
