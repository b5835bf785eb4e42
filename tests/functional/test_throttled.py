"""A host without time: a worker and guests that get a fifth of a processor are late, all of them, and well."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Figure
from tests.functional.acting import acting
from tests.lab import metadata
from tests.lab.broker import Broker
from tests.lab.guest import Guest
from tests.lab.image import Image
from tests.lab.node import Node
from tests.lab.processes import wait_until
from tests.stage.crowd import APPLICATION_MEMORY
from tests.stage.throttle import Throttled, halted, throttled

pytestmark = pytest.mark.unhurried

#: The shortest that there is.
POLICY: dict[str, object] = {"interval": 0.2, "timeout": 0.1, "threshold": 3}
SHARE = 0.2
SECONDS = 30.0
#: However late everything is: a kernel that is dead is told of within (seconds).
TOLD = 30.0
BUSY = "setsid sh -c 'echo $$ >/run/busy; while :; do :; done' </dev/null >/dev/null 2>&1 &"


@pytest.fixture(scope="module")
def pair(node: Node, application_image: Image) -> list[Guest]:
    """Two guests over the application channel."""
    asked = [metadata.heartbeat(**POLICY, channel="application", action="recover_unresponsive")]
    options = {"metadata": asked, "application": True, "memory": APPLICATION_MEMORY, "guest_image": application_image}
    guests = [Guest(node, f"throttled-{n}", **options) for n in range(2)]  # type: ignore[arg-type]
    for guest in guests:
        guest.define()
        guest.boot()
    return guests


@dataclass(frozen=True)
class Shortage:
    """How time is taken away. busy: the guests want all that they can get. halted: by SIGSTOP, whatever they want, so
    that each runs for a fifth of each period of so many seconds; 0: by quotas, one for all of them or one for each."""

    name: str
    busy: bool = False
    halted: float = 0.0
    together: bool = False

    def __str__(self) -> str:
        return self.name

    def begin(self, pids: list[int]) -> AbstractContextManager[Throttled]:
        """From now on."""
        if self.halted:
            return halted(pids, SHARE, self.halted)
        return throttled([pids] if self.together else [[pid] for pid in pids], SHARE)


#: A host that deals out its time in pieces as long as those between two beats.
HALTED = Shortage("stopped for 0.4 s of each 0.5 s", halted=0.5)
#: Who is idle wants less than a fifth of a processor, and is hardly held up by a quota; the figures say how often.
OTHERS = (
    Shortage("stopped for 80 ms of each 100 ms", halted=0.1),
    Shortage("a quota of 20 % each, idle"),
    Shortage("a quota of 20 % together, idle", together=True),
    Shortage("a quota of 20 % each, busy", busy=True),
    Shortage("a quota of 20 % together, busy", busy=True, together=True),
)


@pytest.mark.parametrize("shortage", [HALTED, *(pytest.param(one, marks=pytest.mark.long) for one in OTHERS)], ids=str)
def test_whoever_has_no_time_accuses_nobody_and_still_finds_the_dead(
    broker: Broker, pair: list[Guest], tmp_path: Path, figure: Figure, shortage: Shortage
) -> None:
    """0.2/0.1/3 over the application channel, worker and two guests throttled to 20 % for 30 s: no fault of either
    guest. Then, throttled as before, one kernel dies: an alarm at least."""
    what = f"0.2/0.1/3, {shortage}"
    with acting(broker, pair[0].node, f"throttled-{time.monotonic_ns()}", tmp_path / "host") as host:
        host.know(pair)
        wait_until(lambda: not any(host.open(guest) for guest in pair), 60, "nothing is wrong with them")
        time.sleep(3)
        with shortage.begin([host.worker.pid, *(guest.qemu_pid for guest in pair)]) as throttle:
            for guest in pair if shortage.busy else ():
                guest.begin(BUSY)
            began = time.monotonic()
            time.sleep(SECONDS)
            told = [(guest, one) for guest in pair for one in host.told(guest, began)]
            accused = [one for _, one in told if one.event_type == "vmhb.fault.raised"]
            suspected = len(host.suspicions("raised", began))
            bites = throttle.bites
            died = pair[0].panic()
            while time.monotonic() < died + TOLD and not host.open(pair[0]):
                time.sleep(0.1)
            found = host.open(pair[0])
        posted = [one for guest in pair for one in host.posted(guest)]
    for guest in pair:
        guest.reset()
        guest.wait_agent()
    print(f"by {throttle.how}:", *(f"{one.at - began:5.1f} {guest.name} {one}" for guest, one in told), sep="\n")
    figure(f"{what}: faults raised", len(accused), "")
    figure(f"{what}: host_suspect", suspected, "")
    for bite in bites:
        figure(f"{what}: periods held up, {throttle.how}", 100 * bite, "%")
    assert found, "its kernel died, and nobody said so"
    figure(f"{what}: a dead kernel until its fault is told", found[0].at - died, "s", TOLD)
    assert [str(one) for one in accused] == []
    assert posted == []
