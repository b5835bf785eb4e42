"""The cloud of tests/cloud, without what runs on the hosts that we are brought to: it lends them all the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.cloud import catalogue
from tests.cloud.cloud import ANSWERS, Cloud
from tests.cloud.site import NODES, Site
from tests.lab.processes import LabError, wait_until


class Lent(Cloud):
    """RabbitMQ, MariaDB, Keystone, Placement, Glance, and of Nova and Masakari what we don't touch. nova-api,
    masakari-engine, nova-compute, libvirtd, and what is ours, run elsewhere."""

    def __init__(self, site: Site, tell: Callable[[str], None]) -> None:
        super().__init__(site, tell, nodes=())

    def up(self) -> None:
        """What is lent."""
        self._start_servers()
        self._start_control()
        self._together(
            *((f"{name} answers", self._wait_api(name)) for name in ("placement", "glance", "masakari")),
        )

    def furnish(self) -> None:
        """Images, flavors, and Masakari's segment: once a nova-api runs somewhere. It asks Nova for the hosts."""
        cloud = catalogue.connect(self.site)
        self._furnish(cloud)
        there = set(NODES)
        wait_until(lambda: catalogue.hypervisors(cloud) >= there, ANSWERS, "both hypervisors are up", every=0.5)
        catalogue.segment(cloud)


class Lender:
    """What `tests.cloud.stage` asks the holder of a cloud for."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def ask(self, verb: str, **_: Any) -> Any:
        """Nothing can be asked for: what is not lent has a host of its own."""
        raise LabError(f"{verb}: the hosts of a rollout have a systemd of their own: ask that")
