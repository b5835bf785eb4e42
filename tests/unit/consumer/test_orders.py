"""Whole operations, in the orders in which a real Nova 34 sent their notifications: who is told what, and when.

And in any other order, and twice: two consumers share a queue, brokers hand out again, a backlog is worked off. In the
end workers believe the same.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from tests.stage.nova import Message, notification, samples
from tests.unit.consumer.test_nova_operations import told, with_opt_in
from vmhb_common.model.policy import POLICY_NS
from vmhb_common.model.policy import parse as policy_of
from vmhb_consumer.nova_notification import parse
from vmhb_consumer.nova_operations import Cast, Configure, EndSilence, ExpectSilence, decide
from vmhb_worker.core.announced_silences import Hint, Hints
from vmhb_worker.core.domain_xml import DomainView, read
from vmhb_worker.core.events import WritePolicy
from vmhb_worker.core.pending_policies import Wish, Wishes
from vmhb_worker.core.provisioning import missing

OLD, NEW = ({"hw:heartbeat": "true", "hw:heartbeat_interval": interval} for interval in ("3", "7"))

#: Operation -> what Nova sends: event, publisher, the host in the payload ("-": none), and "new" for a new flavor's.
#: Nova-compute's unless it says otherwise. Of two hosts, the instance is on h1 at first.
ORDERS: Mapping[str, tuple[str, ...]] = {
    "create": ("create.start h1 -", "create.end h1 h1"),
    "pause": ("pause.start h1 h1", "pause.end h1 h1"),
    "unpause": ("unpause.start h1 h1", "unpause.end h1 h1"),
    "suspend": ("suspend.start h1 h1", "suspend.end h1 h1"),
    "resume": ("resume.start h1 h1", "resume.end h1 h1"),
    "stop": ("power_off.start h1 h1", "power_off.end h1 h1"),
    "start": ("power_on.start h1 h1", "power_on.end h1 h1"),
    "reboot": ("reboot.start h1 h1", "reboot.end h1 h1"),  # soft and hard alike
    "reboot that fails": ("reboot.start h1 h1", "reboot.error h1 h1"),
    "lock": ("lock nova-api:control h1", "unlock nova-api:control h1"),
    "rebuild": ("rebuild_scheduled nova-conductor:control h1", "rebuild.start h1 h1", "rebuild.end h1 h1"),
    "rescue": ("rescue.start h1 h1", "rescue.end h1 h1"),
    "unrescue": ("unrescue.start h1 h1", "unrescue.end h1 h1"),
    "resize": (
        "resize_prep.start h2 h1",
        "resize.start h1 h1",
        "resize_finish.start h2 h2 new",
        "resize_finish.end h2 h2 new",
        "resize.end h1 h2",
        "resize_prep.end h2 h1",
    ),
    "revert": ("resize_revert.start h1 h2 new", "resize_revert.end h1 h1"),
    "confirm": ("resize_confirm.start h1 h2 new", "resize_confirm.end h1 h2 new"),
    "live migration": (
        "live_migration_pre.start h2 h1",
        "live_migration_pre.end h2 h1",
        "live_migration_post.start h1 h1",
        "live_migration_post_dest.start h2 h1",
        "live_migration_post_dest.end h2 h2",
        "live_migration_post.end h1 h1",
    ),
    "live migration that is rolled back": (
        "live_migration_pre.start h2 h1",
        "live_migration_rollback.start h1 h1",
        "live_migration_rollback_dest.start h2 h1",
        "live_migration_rollback.end h1 h1",
        "live_migration_rollback_dest.end h2 h1",
    ),
    "evacuation": (
        "evacuate nova-api:control h1",
        "rebuild_scheduled nova-conductor:control h1",
        "rebuild.start h2 h1",
        "power_off.start h2 h1",  # since API 2.95 it is left stopped
        "power_off.end h2 h1",
        "rebuild.end h2 h1",
    ),
    "shelve": ("shelve.start h1 h1", "shelve.end h1 h1"),
    "shelve offload": ("shelve_offload.start h1 h1", "shelve_offload.end h1 -"),
    "unshelve": ("unshelve.start h2 -", "unshelve.end h2 h2"),
    "delete": ("delete.start h1 h1", "shutdown.start h1 h1", "shutdown.end h1 h1", "delete.end h1 h1"),
}

#: The same operations -> what workers are told. Most keys name their request as well, which is left out here.
TOLD: Mapping[str, tuple[str, ...]] = {
    "create": ("h1: configure",),
    "pause": ("h1: expect pause", "h1: end pause"),
    "unpause": (),
    "suspend": ("h1: expect suspend", "h1: end suspend"),
    "resume": ("h1: configure",),
    "stop": ("h1: expect power_off", "h1: end power_off"),
    "start": ("h1: configure", "h1: end rescued", "h1: end power_off"),
    "reboot": ("h1: expect reboot", "h1: configure", "h1: end rescued", "h1: end power_off", "h1: end reboot"),
    "reboot that fails": ("h1: expect reboot", "h1: end reboot"),
    "lock": (),
    "rebuild": ("h1: expect rebuild", "h1: configure", "h1: end rescued", "h1: end rebuild"),
    "rescue": ("h1: expect rescue", "h1: expect rescued", "h1: end rescue"),
    "unrescue": ("h1: expect unrescue", "h1: configure", "h1: end rescued", "h1: end unrescue"),
    "resize": (
        "h1: expect resize",
        "h2: expect resize_finish",
        "h2: configure",
        "h2: end rescued",
        "h2: end resize_finish",
        "h1: end rescued",
        "h1: end resize",
    ),
    "revert": ("h1: expect resize_revert", "h1: configure", "h1: end rescued", "h1: end resize_revert"),
    "confirm": (),
    "live migration": (
        "h2: expect live_migration",
        "h1: expect live_migration",
        "h2: configure",
        "h2: end live_migration",
        "h1: end rescued",
        "h1: end live_migration",
    ),
    "live migration that is rolled back": (
        "h2: expect live_migration",
        "h1: expect live_migration",
        "h1: end live_migration",
        "h2: end live_migration",
    ),
    "evacuation": (
        "h2: expect rebuild",
        "h2: expect power_off",
        "h2: end power_off",
        "h2: configure",
        "h2: end rescued",
        "h2: end rebuild",
    ),
    "shelve": ("h1: expect shelve", "h1: end shelve"),
    "shelve offload": ("h1: expect shelve_offload", "h1: end rescued", "h1: end shelve_offload"),
    "unshelve": ("h2: configure", "h2: end rescued"),
    "delete": ("h1: expect delete", "h1: end delete"),
}


def sent(operation: str, request: str = "req-1", at: float = 0.0) -> list[Message]:
    """Its notifications, a tenth of a second apart."""
    messages = []
    for number, text in enumerate(ORDERS[operation]):
        event, publisher, host, *new = text.split()
        messages.append(
            notification(
                *event.split("."),
                publisher=publisher if ":" in publisher else f"nova-compute:{publisher}",
                at=at + number / 10,
                specs=NEW if new else OLD,
                request_id=request,
                host=None if host == "-" else host,
            )
        )
    return messages


@pytest.mark.parametrize("operation", ORDERS)
def test_a_recorded_order(operation: str) -> None:
    """What is told, to whom, in which order; every key that names a request names this one."""
    lines = told(*sent(operation, "req-7"))
    assert tuple(line.removesuffix(":req-7") for line in lines) == TOLD[operation]
    assert all(line.endswith((":req-7", "configure", " rescued", " power_off", " reboot")) for line in lines)


def test_a_recorded_cloud() -> None:
    """All that a real Nova sent in an afternoon, had its flavors asked, as it sent it."""
    recorded = sorted(samples(), key=lambda one: one.metadata["timestamp"])
    messages = [with_opt_in(one.event_type) for one in recorded if one.event_type.startswith("instance.")]
    assert [line.partition(":req-")[0] for line in told(*messages)] == [
        "node1: configure",
        "node1: expect power_off",
        "node1: end power_off",
        "node1: configure",
        "node1: end rescued",
        "node1: end power_off",
        "node1: expect reboot",
        "node1: configure",
        "node1: end rescued",
        "node1: end power_off",
        "node1: end reboot",
        # a live migration that is rolled back, and one that is not
        "node2: expect live_migration",
        "node1: expect live_migration",
        "node1: end live_migration",
        "node2: end live_migration",
        "node2: configure",
        "node2: end live_migration",
        "node1: end rescued",
        "node1: end live_migration",
        # an evacuation, and a deletion
        "node1: expect rebuild",
        "node1: configure",
        "node1: end rescued",
        "node1: end rebuild",
        "node1: expect delete",
        "node1: end delete",
    ]


@pytest.mark.parametrize("operation", ["start", "reboot", "rebuild", "unrescue", "revert"])
def test_its_own_image_ends_the_silence_of_rescue_mode(operation: str) -> None:
    """An admin resets its state and reboots it, and nobody unrescues it: its own image's faults are not hidden."""
    workers = Workers()
    workers.take(*sent("rescue", "req-a", at=0))
    assert set(workers.silences("h1")) == {"rescued"}
    workers.take(*sent(operation, "req-b", at=10))
    assert set(workers.silences("h1")) == set()


@pytest.mark.parametrize("operation", ["resize", "live migration", "shelve offload"])
def test_who_leaves_takes_no_silence_along_and_leaves_none_behind(operation: str) -> None:
    """It may come back to the host within a day, with its own image."""
    workers = Workers()
    workers.take(*sent("rescue", "req-a", at=0), *sent(operation, "req-b", at=10))
    assert set(workers.silences("h1")) == set(workers.silences("h2")) == set()


@pytest.mark.parametrize("operation", ["pause", "unpause", "suspend", "resume", "stop", "shelve", "reboot that fails"])
def test_rescue_mode_outlasts_what_changes_no_image(operation: str) -> None:
    """What is resumed is what was suspended: the rescue image."""
    workers = Workers()
    workers.take(*sent("rescue", "req-a", at=0), *sent(operation, "req-b", at=10))
    assert set(workers.silences("h1")) == {"rescued"}


# -- in any order ------------------------------------------------------------------------------------------------------


@dataclass
class Worker:
    """What a worker makes of casts about one instance: its own rules, and a domain that runs all the time."""

    hints: Hints = field(default_factory=Hints)
    wishes: Wishes = field(default_factory=Wishes)
    element: str = ""

    def view(self) -> DomainView:
        """The domain, as libvirt shows it."""
        ours = self.element.replace("<heartbeat ", f"<heartbeat xmlns='{POLICY_NS}' ")
        return read(f"<domain><uuid>11111111-1111-4111-8111-111111111111</uuid><metadata>{ours}</metadata></domain>")

    def take(self, cast: Cast, wall: float) -> None:
        """One cast."""
        at = cast.observed_at.timestamp()
        match cast:
            case ExpectSilence():
                self.hints.expect("u", cast.key, Hint(cast.reason, at, at + cast.timeout), wall)
            case EndSilence():
                self.hints.end("u", cast.key, at)
            case Configure() if self.wishes.keep("u", Wish(cast.knobs, cast.observed_at), 0.0):
                step = missing(self.view(), policy_of({}).policy, self.wishes.of("u", 0.0))
                if isinstance(step, WritePolicy):
                    self.element = step.element
                    self.wishes.drop("u")


class Workers:
    """All of them, by host and instance. wall: when they are told all this, before any silence is over by itself."""

    def __init__(self, wall: float = 0.0) -> None:
        self.all: dict[tuple[str, str], Worker] = {}
        self.wall = wall

    def take(self, *messages: Message) -> None:
        """What is decided about these notifications."""
        for message in messages:
            for cast in decide(parse(*message.arguments)):
                self.all.setdefault((cast.host, cast.instance_uuid), Worker()).take(cast, self.wall)

    def restart(self) -> None:
        """Whatever is kept in memory of policies is forgotten; domains stay as they are."""
        for worker in self.all.values():
            worker.wishes = Wishes()

    def silences(self, host: str) -> dict[str, Hint]:
        """Those that are believed of this host's instances."""
        found = (worker.hints.of("u", self.wall) for (where, _who), worker in self.all.items() if where == host)
        return {key: hint for hints in found for key, hint in hints.items()}

    @property
    def state(self) -> dict[tuple[str, str], tuple[dict[str, Hint], str]]:
        """All that they believe, and what is in the domains."""
        return {which: (one.hints.of("u", self.wall), one.element) for which, one in self.all.items()}


def life() -> list[Message]:
    """An instance's whole life on two hosts: all orders, some of them more than once. It ends rescued, before a resize
    that ends halfway: there is something left to believe in."""
    messages: list[Message] = []
    names = [name for name in ORDERS if name != "delete"]
    for number, name in enumerate((*names, "rescue", "unrescue", "reboot", "resize", "rescue", "stop", "rescue")):
        messages += sent(name, f"req-{number}", at=number)
    return [*messages, *sent("resize", "req-last", at=50.0)[:3], *sent("pause", "req-over", at=51.0)[:1]]


def test_shuffled_and_duplicated_ends_in_the_same_state() -> None:
    """However late, however often, and whatever a worker forgot meanwhile: the newest flavor is in the domain, and of
    silences those remain whose end was not told."""
    recorded = [with_opt_in(one.event_type) for one in samples() if one.event_type.startswith("instance.")]
    recorded.sort(key=lambda one: str(one.metadata["timestamp"]))
    messages = life() + recorded
    in_order = Workers()
    in_order.take(*messages)
    assert set(in_order.silences("h1")) == {"rescued", "resize:req-last", "pause:req-over"}
    assert set(in_order.silences("h2")) == {"resize_finish:req-last"}
    assert {(worker.view().asked or {}).get("interval") for worker in in_order.all.values()} == {None, "3", "7"}
    dice = random.Random(3)
    for _ in range(150):
        shuffled = messages + dice.choices(messages, k=dice.randrange(30))
        dice.shuffle(shuffled)
        workers = Workers()
        restarts = set(dice.sample(range(len(shuffled)), 3))
        for number, message in enumerate(shuffled):
            workers.take(message)
            if number in restarts:
                workers.restart()
        assert workers.state == in_order.state
