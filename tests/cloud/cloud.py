"""The cloud: what is started in which order, and each of its services by name. Lives as long as its process."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.cloud import catalogue, configs, database
from tests.cloud.site import BIN, NODES, PASSWORD, REGION, Site
from tests.lab import image
from tests.lab.broker import Broker
from tests.lab.node import Node
from tests.lab.processes import LabError, Processes, wait_until

ROOT = pathlib.Path(__file__).parent.parent.parent
OUR_DRIVER = "vmhb.VmhbLibvirtDriver"
STOCK_DRIVER = "libvirt.LibvirtDriver"
#: masakari-monitors' own, started where a test wants one, beside our worker or in its place.
PEERS = ("instancemonitor", "introspectiveinstancemonitor")
#: Seconds until an API answers, on a machine that has other things to do as well.
ANSWERS = 120.0


@dataclass
class Service:
    """A program of the cloud's: how it is started, under which keeper, and its process."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    keeper: Processes
    log: pathlib.Path
    pid: int = 0

    def boot(self) -> None:
        """Start it."""
        self.pid = self.keeper.spawn(self.argv, log=self.log, env={**os.environ, **self.environment})

    def signal(self, number: signal.Signals) -> float:
        """Signal it; the moment."""
        return self.keeper.signal(self.pid, number)

    @property
    def runs(self) -> bool:
        """Does its process live?"""
        return self.pid > 0 and self.keeper.exit_of(self.pid) is None

    def halt(self, *, kill: bool = False, timeout: float = 30) -> float:
        """End it, by SIGTERM or SIGKILL; what does not end in time is killed. Returns the moment it was told."""
        moment = self.signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            wait_until(lambda: not self.runs, timeout, f"{self.argv[0]} ends")
        except LabError:
            self.signal(signal.SIGKILL)
            wait_until(lambda: not self.runs, timeout, f"{self.argv[0]} ends when it is killed")
        return moment


class Cloud:
    """One cloud, in `Site`'s folder, which is there and empty. nodes: to compute on. tell: is told what is done, for
    whoever waits."""

    def __init__(self, site: Site, tell: Callable[[str], None], nodes: Sequence[str] = NODES) -> None:
        (site.folder / "broker").mkdir()
        (site.folder / "control").mkdir()
        for folder in (site.etc, site.log, site.data):
            folder.mkdir()
        self.site = site
        self.services: dict[str, Service] = {}
        self.broker = Broker(folder=site.folder / "broker")
        self.control = Processes(site.folder / "control")
        mounts = {"instances": str(site.instances)}
        self.nodes = {name: Node(name, folder=site.node(name), mounts=mounts) for name in nodes}
        self._tell = tell

    # -- up and down -------------------------------------------------------------------------------------------------

    def up(self) -> None:
        """All of it, as far as the order of things allows at the same time."""
        self._start_servers()
        self._start_control()
        self._start_nova_api()
        self._start_masakari_engine()
        self._together(*((f"{name} answers", self._wait_api(name)) for name in ("placement", "glance", "nova")))
        self._start_computes()
        cloud = catalogue.connect(self.site)
        self._together(
            ("Masakari answers", self._wait_api("masakari")),
            ("images and flavors are there", lambda: self._furnish(cloud)),
            ("both hypervisors are up", lambda: self._wait_hypervisors(cloud)),
            ("workers and consumer run", self._start_ours),
        )
        catalogue.segment(cloud)
        self._tell("Masakari has a segment with both hosts")

    def _start_servers(self) -> None:
        """What everybody needs: a broker, databases with their schemas, Keystone; and nodes to compute on."""
        self._together(
            ("RabbitMQ answers", self.broker.start),
            ("MariaDB answers", lambda: database.start(self.site, self.control)),
            *((f"libvirtd of {name} answers", node.start) for name, node in self.nodes.items()),
        )
        # As operators are told to have their queues.
        self.site = dataclasses.replace(
            self.site, transport_url=f"{self.broker.transport_url}?amqp_durable_queues=true"
        )
        configs.write(self.site, OUR_DRIVER)
        self._together(
            ("Keystone answers", self._start_keystone),
            ("guests' images are built", self._build_images),
            *self._schemas(),
        )

    def down(self) -> None:
        """End everything; returns when nothing of it runs."""
        for node in self.nodes.values():
            node.stop()
        self.control.end()
        self.broker.stop()

    def _together(self, *deeds: tuple[str, Callable[[], object]]) -> None:
        """At the same time; each is told of when it is done. Raises what the first that failed has raised."""

        def timed(what: str, deed: Callable[[], object]) -> None:
            began = time.monotonic()
            deed()
            self._tell(f"{what} ({time.monotonic() - began:.1f} s)")

        with ThreadPoolExecutor(len(deeds)) as pool:
            for future in [pool.submit(timed, *deed) for deed in deeds]:
                future.result()

    # -- its services ------------------------------------------------------------------------------------------------

    def start(
        self,
        name: str,
        *argv: str,
        node: str | None = None,
        environment: Mapping[str, str] | None = None,
        boot: bool = True,
    ) -> None:
        """Start a program, on the control plane or in a node; boot=False: only know how."""
        keeper = self.nodes[node].processes if node else self.control
        path = {"PATH": f"{BIN}:{os.environ['PATH']}"}
        self.services[name] = Service(argv, {**path, **(environment or {})}, keeper, self.site.log / f"{name}.out")
        if boot:
            self.services[name].boot()

    def _serve(self, name: str, what: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        port = str(self.site.ports[name])
        self.start(
            name,
            *(sys.executable, "-m", "tests.cloud.serve", what, port, *arguments),
            environment={"PYTHONPATH": str(ROOT), **(environment or {})},
        )

    def _wait_api(self, name: str) -> Callable[[], object]:
        url = self.site.url(name, "/v3" if name == "keystone" else "/")

        def there() -> bool:
            if not self.services[_api(name)].runs:
                raise LabError(f"{name} ended at once: see {self.site.log}/{_api(name)}.out")
            return answers(url)

        return lambda: wait_until(there, ANSWERS, f"{name} answers", every=0.1)

    # -- the parts of `up` -------------------------------------------------------------------------------------------

    def _start_keystone(self) -> None:
        config = ["--config-file", str(self.site.etc / "keystone/keystone.conf")]
        for name in ("fernet-keys", "credential-keys"):
            (self.site.etc / "keystone" / name).mkdir(mode=0o700)
        us = ["--keystone-user", "root", "--keystone-group", "root"]
        urls = [f"--bootstrap-{kind}-url={self.site.auth_url}" for kind in ("public", "internal", "admin")]
        self._manage(
            "keystone.cmd.manage",
            [*config, "db_sync"],
            [*config, "fernet_setup", *us],
            [*config, "credential_setup", *us],
            [*config, "bootstrap", f"--bootstrap-password={PASSWORD}", f"--bootstrap-region-id={REGION}", *urls],
        )
        folder = {"OS_KEYSTONE_CONFIG_DIR": str(self.site.etc / "keystone")}
        self._serve("keystone", "keystone.wsgi.api", environment=folder)
        self._wait_api("keystone")()
        catalogue.register(catalogue.connect(self.site), self.site)

    def _schemas(self) -> list[tuple[str, Callable[[], object]]]:
        etc = self.site.etc
        nova = self._nova()
        cell0 = self.site.sql("nova_cell0")

        def of_nova() -> None:
            self._manage(
                "nova.cmd.manage",
                [*nova, "api_db", "sync"],
                [*nova, "cell_v2", "map_cell0", "--database_connection", cell0],
                [*nova, "cell_v2", "create_cell", "--name", "cell1"],
                [*nova, "db", "sync"],
            )

        def of(program: str, *arguments: str) -> Callable[[], object]:
            return lambda: self._run(str(BIN / program), "--config-file", *arguments)

        return [
            ("Nova's schemas are there", of_nova),
            (
                "Placement's schema is there",
                of("placement-manage", str(etc / "placement/placement.conf"), "db", "sync"),
            ),
            ("Glance's schema is there", of("glance-manage", str(etc / "glance/glance-api.conf"), "db_sync")),
            ("Masakari's schema is there", of("masakari-manage", str(etc / "masakari/masakari.conf"), "db", "sync")),
        ]

    def _start_control(self) -> None:
        etc, nova = self.site.etc, self._nova()
        self._serve("placement", "placement.wsgi.api", environment={"OS_PLACEMENT_CONFIG_DIR": str(etc / "placement")})
        self._serve(
            "glance", "glance.common.wsgi_app:init_app", environment={"OS_GLANCE_CONFIG_DIR": str(etc / "glance")}
        )
        self._serve("neutron", "tests.cloud.neutron")
        self.start("nova-conductor", str(BIN / "nova-conductor"), *nova)
        self.start("nova-scheduler", str(BIN / "nova-scheduler"), *nova)
        # Not its WSGI application: under a server of threads it replaces parts of the library.
        self.start("masakari-api", str(BIN / "masakari-api"), *self._masakari(), environment=self._masakari_folder())

    def _start_nova_api(self) -> None:
        etc = self.site.etc
        self._serve(
            "nova",
            "nova.wsgi.osapi_compute",
            *("--log-file", str(self.site.log / "nova-api.log")),
            environment={
                "OS_NOVA_CONFIG_DIR": str(etc / "nova"),
                "OS_NOVA_CONFIG_FILES": "api-paste.ini;nova.conf;nova-db.conf",  # the first is taken for api-paste.ini
            },
        )

    def _start_masakari_engine(self) -> None:
        engine = str(BIN / "masakari-engine")
        self.start("masakari-engine", engine, *self._masakari(), environment=self._masakari_folder())

    def _masakari(self) -> tuple[str, str]:
        return "--config-file", str(self.site.etc / "masakari/masakari.conf")

    def _masakari_folder(self) -> dict[str, str]:
        return {"OS_MASAKARI_CONFIG_DIR": str(self.site.etc / "masakari")}

    def _start_computes(self) -> None:
        self._run(str(BIN / "nova-vmhb-driver"), "install")
        self._run(str(BIN / "nova-vmhb-driver"), "status")
        for node in self.nodes:
            (self.site.node(node) / "nova").mkdir()
            files = [str(self.site.etc / "nova" / name) for name in ("nova.conf", f"{node}.conf")]
            config = [f"--config-file={file}" for file in files]
            self.start(f"nova-compute-{node}", str(BIN / "nova-compute"), *config, node=node)

    def _start_ours(self) -> None:
        folder = self.site.etc / "vmhb"
        for node in self.nodes:
            config = f"--config-file={folder}/vmhb-worker-{node}.conf"
            self.start(f"vmhb-worker-{node}", str(BIN / "vmhb-worker"), config, node=node)
            for peer in PEERS:
                config = f"--config-file={self.site.etc}/masakari/monitors-{node}.conf"
                self.start(f"{peer}-{node}", str(BIN / f"masakari-{peer}"), config, node=node, boot=False)
        self.start(
            "nova-vmhb-consumer",
            str(BIN / "nova-vmhb-consumer"),
            f"--config-file={folder}/nova-vmhb-consumer.conf",
        )
        for name in (*(f"vmhb-worker-{node}" for node in self.nodes), "nova-vmhb-consumer"):
            self._wait_said(name, "is running")

    def _wait_said(self, name: str, text: str) -> None:
        """Until it has written that into its log."""
        log = self.site.log / f"{name}.log"

        def said() -> bool:
            if not self.services[name].runs:
                raise LabError(f"{name} ended at once: see {log} and {name}.out beside it")
            return log.exists() and text in log.read_text(errors="replace")

        wait_until(said, ANSWERS, f"{name} says: {text}", every=0.1)

    def _wait_hypervisors(self, cloud: catalogue.Api) -> None:
        def up() -> bool:
            for node in self.nodes:
                if not self.services[f"nova-compute-{node}"].runs:
                    raise LabError(f"nova-compute of {node} ended: see {self.site.log}/nova-compute-{node}.log")
            return catalogue.hypervisors(cloud) >= set(self.nodes)

        wait_until(up, ANSWERS, "Nova knows both compute nodes, and they are up", every=0.3)

    @staticmethod
    def _build_images() -> tuple[image.Image, image.Image]:
        return image.build(), image.build(applications=True)

    def _furnish(self, cloud: catalogue.Api) -> None:
        catalogue.images(cloud, self.site, *self._build_images())
        catalogue.flavors(cloud)

    def _nova(self) -> list[str]:
        folder = self.site.etc / "nova"
        return ["--config-file", str(folder / "nova.conf"), "--config-file", str(folder / "nova-db.conf")]

    def _manage(self, module: str, *commands: Sequence[str]) -> None:
        self._run(sys.executable, "-m", "tests.cloud.manage", module, json.dumps(commands))

    def _run(self, *argv: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with (self.site.log / "set-up.log").open("a") as log:
            log.write(f"$ {' '.join(argv)}\n")
            log.flush()
            done = subprocess.run(
                argv, check=False, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        if done.returncode:
            raise LabError(f"{pathlib.Path(argv[0]).name} ended with {done.returncode}: see {log.name}")


def answers(url: str) -> bool:
    """Does an API of this cloud's?"""
    try:
        with urllib.request.urlopen(url, timeout=20):  # noqa: S310 -- our own
            return True
    except urllib.error.HTTPError:
        return True  # whatever it says of the root, it is there
    except OSError:
        return False


def _api(name: str) -> str:
    """The service that answers for it."""
    return "masakari-api" if name == "masakari" else name
