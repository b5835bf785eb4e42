"""What Nova does to an instance on purpose, and the XML that libvirt gets for it, through the real API and driver.

The same walk through all of it is taken by three instances: one whose flavor asks, one whose flavor does not, and one
like the second in a cloud whose computes have the stock driver.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from nova.conf import CONF

from tests.nova.cloud import IMAGE, OURS, STOCK, Handed, TwoHosts, channels, elements, running
from vmhb_common.model.policy import POLICY_NS, PORT_NAMES, Channel
from vmhb_worker.core import domain_xml

ELEMENTS = [f"{{{domain_xml.NOVA_NS}}}instance", f"{{{POLICY_NS}}}heartbeat"]
BOTH = [PORT_NAMES[Channel.AGENT], PORT_NAMES[Channel.APPLICATION]]

#: Always the same, so that two walks can be compared. They ask for Nova's own channel, which is not to come twice.
REBUILT = "0f9a6d3e-6a0c-4b7e-9d55-3f1c2f1e7a03"
PROPERTIES = {"hw_qemu_guest_agent": "yes", "hw_heartbeat": "true", "hw_heartbeat_channel": "application"}


@dataclass(frozen=True)
class Flavors:
    """Extra specs: to boot with, and to be resized to."""

    first: Mapping[str, str]
    second: Mapping[str, str]


ASKING = Flavors(
    {"hw:heartbeat": "true", "hw:heartbeat_channel": "application", "hw:heartbeat_interval": "0.5"},
    {"hw:heartbeat": "true", "hw:heartbeat_channel": "application", "hw:heartbeat_interval": "30"},
)
SILENT = Flavors({}, {"hw_rng:allowed": "true"})


@dataclass
class Walk:
    """An instance on its way. handed: step -> what libvirt got for it."""

    cloud: TwoHosts
    name: str
    flavors: Flavors
    server: Any = None
    handed: dict[str, Sequence[Handed]] = field(default_factory=dict)

    def take(self, step: str) -> None:
        """Go one step."""
        STEPS[step](self)
        self.handed[step] = [replace(handed, xml=self._neutral(handed.xml)) for handed in self.cloud.take(self.server)]

    def boot(self) -> None:
        """The first step."""
        flavor = self.cloud.flavor(self.flavors.first, name=f"{self.name}-1")
        self.server = self.cloud.boot(flavor, IMAGE, self.name)

    def resize(self) -> None:
        """To the second flavor, which is made for the first time that it is wanted."""
        flavor = f"{self.name}-2"
        if "resize, to be reverted" not in self.handed:
            self.cloud.flavor(self.flavors.second, memory=1024, name=flavor)
        self.cloud.resize(self.server, flavor)

    def _neutral(self, xml: str) -> str:
        """Without what is another's in each instance, each cloud and each second."""
        number = self.cloud.admin_api.get_server(self.server["id"])["OS-EXT-SRV-ATTR:instance_name"]
        for own, neutral in ((self.server["id"], "ID"), (number, "NUMBER"), (CONF.instances_path, "INSTANCES")):
            assert own in xml, f"no {neutral} in it"
            xml = xml.replace(own, neutral)
        return re.sub("(<nova:creationTime>)[^<]+", r"\1THEN", xml)


#: In this order: the evacuation leaves its host behind.
STEPS: Mapping[str, Callable[[Walk], None]] = {
    "boot": Walk.boot,
    "hard reboot": lambda walk: walk.cloud.hard_reboot(walk.server),
    "stop": lambda walk: walk.cloud.act(walk.server, "os-stop", "SHUTOFF"),
    "start": lambda walk: walk.cloud.act(walk.server, "os-start", "ACTIVE"),
    "rescue": lambda walk: walk.cloud.rescue(walk.server),
    "unrescue": lambda walk: walk.cloud.act(walk.server, "unrescue", "ACTIVE"),
    "rebuild": lambda walk: walk.cloud.rebuild(walk.server, REBUILT),
    "shelve": lambda walk: walk.cloud.shelve(walk.server),
    "unshelve": lambda walk: walk.cloud.unshelve(walk.server),
    "resize, to be reverted": Walk.resize,
    "revert": lambda walk: walk.cloud.revert(walk.server),
    "resize, to be confirmed": Walk.resize,
    "confirm": lambda walk: walk.cloud.confirm(walk.server),
    "live migration": lambda walk: walk.cloud.live_migrate(walk.server),
    "evacuation": lambda walk: walk.cloud.evacuate(walk.server),
}
#: In all others Nova gives libvirt XML, or these tests look at nothing.
WITHOUT_XML = {"stop", "shelve", "confirm"}
WRITES = [step for step in STEPS if step not in WITHOUT_XML]
#: When the instance has its second flavor.
RESIZED = {"resize, to be reverted", "resize, to be confirmed", "live migration", "evacuation"}

Walked = Mapping[str, Mapping[str, Sequence[Handed]]]


def walked(driver: str, flavors: Mapping[str, Flavors]) -> Walked:
    """All steps, by as many instances as there are pairs of flavors, in a cloud that is made for it."""
    cloud = TwoHosts()
    cloud.compute_driver = driver
    with running(cloud):
        cloud.image(PROPERTIES, IMAGE)
        cloud.image(PROPERTIES, REBUILT)
        walks = {name: Walk(cloud, name, pair) for name, pair in flavors.items()}
        for step in STEPS:
            for walk in walks.values():
                walk.take(step)
    return {name: walk.handed for name, walk in walks.items()}


@pytest.fixture(scope="module")
def stock() -> Walked:
    """By name of the walk and step, what Nova's own driver gives libvirt."""
    return walked(STOCK, {"silent": SILENT})


@pytest.fixture(scope="module")
def ours() -> Walked:
    """And what ours does."""
    return walked(OURS, {"asking": ASKING, "silent": SILENT})


@pytest.mark.parametrize("step", WRITES)
def test_a_flavor_that_asks(ours: Walked, step: str) -> None:
    """Both channels and our element, each once, in whatever libvirt gets; and the policy of the flavor that it has."""
    handed = ours["asking"][step]
    assert handed
    flavor = ASKING.second if step in RESIZED else ASKING.first
    policy = {name.removeprefix("hw:heartbeat_").removeprefix("hw:"): value for name, value in flavor.items()}
    for one in handed:
        assert [name for name, _ in channels(one.xml)] == BOTH
        assert elements(one.xml) == ELEMENTS
        assert domain_xml.read(one.xml).asked == policy


@pytest.mark.parametrize("step", WRITES)
def test_a_flavor_that_asks_for_nothing(ours: Walked, stock: Walked, step: str) -> None:
    """The same calls of libvirt, on the same hosts, with the same XML, byte for byte, as from the stock driver."""
    assert [name for name, _ in channels(stock["silent"][step][-1].xml)] == BOTH[:1]
    assert ours["silent"][step] == stock["silent"][step]


def test_the_walk_misses_no_xml(ours: Walked, stock: Walked) -> None:
    """The steps that are not looked at have none."""
    for walk in (*ours.values(), *stock.values()):
        assert {step for step, handed in walk.items() if not handed} == WITHOUT_XML


def test_live_migration_makes_it_on_the_destination(ours: Walked) -> None:
    """What the source told of the guest is what the destination makes it of."""
    before, (after, *_) = ours["asking"]["resize, to be confirmed"][-1], ours["asking"]["live migration"]
    assert after.call == "createXML"
    assert {before.host, after.host} == set(TwoHosts.COMPUTES)


def test_unrescue_brings_back_what_was_there(ours: Walked) -> None:
    """Nova keeps it in a file meanwhile. The guest that rescues is another one."""
    walk = ours["asking"]
    assert walk["unrescue"][-1].xml == walk["start"][-1].xml != walk["rescue"][-1].xml
