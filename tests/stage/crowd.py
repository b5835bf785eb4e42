"""Many guests on one node: most of them idle, which costs next to nothing once they are up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.lab import metadata
from tests.lab.guest import Guest
from tests.lab.image import Image
from tests.lab.node import Node
from tests.lab.stand_in import StandIn

#: Guests that boot at a time. A boot is seconds of CPU, and the machine may have two processors.
BOOTING = 3
#: MiB that the two images need.
AGENT_MEMORY, APPLICATION_MEMORY = 112, 160


class Stub(Guest):
    """A domain that is opted in and runs, and whose guest is no more than a BIOS that found nothing to boot."""

    @property
    def xml(self) -> str:
        """Without a kernel."""
        return re.sub(r"<(kernel|initrd|cmdline)>.*?</\1>\s*", "", super().xml)


def crowd(node: Node, image: Image, number: int, **policy: object) -> list[Guest]:
    """So many guests whose agents answer, opted in with this policy."""
    asked = [metadata.heartbeat(**policy)]
    guests = [Guest(node, f"crowd-{n:02}", metadata=asked, guest_image=image) for n in range(number)]
    for guest in guests:
        guest.define()
    with ThreadPoolExecutor(BOOTING) as pool:
        list(pool.map(Guest.boot, guests))
    return guests


def mixed_crowd(node: Node, images: tuple[Image, Image], number: int) -> list[Guest]:
    """So many guests that answer, opted in; every other one has vmhb-guest, and the application channel besides.

    images: with the agent alone, and with vmhb-guest.
    """
    guests = []
    for n in range(number):
        application = n % 2 == 1
        asked = [metadata.heartbeat(channel="application" if application else "agent")]
        guests.append(
            Guest(
                node,
                f"mixed-{n:02}",
                metadata=asked,
                guest_image=images[application],
                application=application,
                memory=APPLICATION_MEMORY if application else AGENT_MEMORY,
            )
        )
        guests[-1].define()
    with ThreadPoolExecutor(BOOTING) as pool:
        list(pool.map(Guest.boot, guests))
    return guests


def stubs(node: Node, image: Image, number: int, **policy: object) -> list[Guest]:
    """So many guests that never answer, and cost next to nothing."""
    asked = [metadata.heartbeat(**policy)]
    guests: list[Guest] = [Stub(node, f"stub-{n:02}", metadata=asked, guest_image=image) for n in range(number)]
    for guest in guests:
        guest.define()
        guest.start()
    return guests


def stand_ins(node: Node, number: int, first: int = 0) -> list[StandIn]:
    """So many that answer over both channels, without a QEMU or a policy. first: the number of the first one."""
    guests = [StandIn(node, f"stand-in-{n:03}", application=True) for n in range(first, first + number)]
    for guest in guests:
        guest.define()
    with ThreadPoolExecutor(BOOTING) as pool:
        list(pool.map(StandIn.boot, guests))
    return guests


def together(deed: Callable[[Guest], float], guests: Sequence[Guest]) -> list[float]:
    """Do it to all of them at the same time; when it was done to each."""
    with ThreadPoolExecutor(len(guests)) as pool:
        return list(pool.map(deed, guests))


def uuids(guests: Iterable[Guest]) -> set[str]:
    """Theirs."""
    return {guest.uuid for guest in guests}
