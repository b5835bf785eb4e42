"""Where the cloud is: its folder, ports, names and secrets. Pure, but for the choice of free ports."""

from __future__ import annotations

import pathlib
import sys
from dataclasses import dataclass, field

from tests.lab.broker import free_ports

#: One cloud a machine, so one folder. Short, for the sockets of libvirt's that are in it.
FOLDER = pathlib.Path("/tmp/vmhb-cloud")
#: Of the environment that all of it runs in.
PREFIX = pathlib.Path(sys.prefix)
BIN = PREFIX / "bin"

NODES = ("node1", "node2")
REGION = "RegionOne"
#: Of everybody in it. It can be reached from this machine only, and keeps nothing.
PASSWORD = "vmhb-cloud"
#: Nova's database is three.
DATABASES = ("keystone", "placement", "glance", "nova_api", "nova_cell0", "nova_cell1", "masakari")
#: Service -> the type in Keystone's catalogue, and the path of its endpoint.
SERVICES = {
    "placement": ("placement", ""),
    "glance": ("image", ""),
    "nova": ("compute", "/v2.1"),
    "neutron": ("network", ""),
    "masakari": ("instance-ha", "/v1"),
}


@dataclass(frozen=True)
class Site:
    """One cloud's."""

    folder: pathlib.Path = FOLDER
    transport_url: str = ""
    ports: dict[str, int] = field(
        default_factory=lambda: dict(
            zip(("keystone", *SERVICES), free_ports(len(SERVICES) + 1), strict=True),
        )
    )

    @property
    def etc(self) -> pathlib.Path:
        """Configuration."""
        return self.folder / "etc"

    @property
    def log(self) -> pathlib.Path:
        """Logs of all services; they stay when the cloud is down, until the next."""
        return self.folder / "log"

    @property
    def data(self) -> pathlib.Path:
        """What services keep."""
        return self.folder / "data"

    @property
    def socket(self) -> pathlib.Path:
        """MariaDB's."""
        return self.folder / "data/mariadb.sock"

    @property
    def instances(self) -> pathlib.Path:
        """Nova's instances_path; each node has a folder of its own mounted there."""
        return self.folder / "data/instances"

    def node(self, name: str) -> pathlib.Path:
        """A compute node's folder."""
        return self.folder / name

    def libvirt_uri(self, node: str) -> str:
        """Of a node's libvirtd. node may be "%s", which Nova replaces."""
        return f"qemu+unix:///system?socket={self.node(node)}/run/libvirt-sock"

    def url(self, service: str, path: str = "") -> str:
        """Of a service's API."""
        return f"http://127.0.0.1:{self.ports[service]}{path}"

    def endpoint(self, service: str) -> str:
        """As it stands in the catalogue."""
        return self.url(service, SERVICES[service][1])

    @property
    def auth_url(self) -> str:
        """Keystone."""
        return self.url("keystone", "/v3")

    def sql(self, database: str) -> str:
        """SQLAlchemy's URL."""
        return f"mysql+pymysql://root@localhost/{database}?charset=utf8&unix_socket={self.socket}"

    @property
    def admin(self) -> dict[str, str]:
        """What a client of the cloud's administrator has in its environment."""
        return {
            "OS_AUTH_URL": self.auth_url,
            "OS_USERNAME": "admin",
            "OS_PASSWORD": PASSWORD,
            "OS_PROJECT_NAME": "admin",
            "OS_USER_DOMAIN_ID": "default",
            "OS_PROJECT_DOMAIN_ID": "default",
            "OS_REGION_NAME": REGION,
            "OS_IDENTITY_API_VERSION": "3",
            "OS_COMPUTE_API_VERSION": "2.96",
        }
