"""One control host and two compute hosts, booted from one tree, as Nova's and Masakari's own tool leaves them."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import shutil
import sys
import tempfile
import time
import types
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.cloud import configs
from tests.cloud.cloud import ANSWERS, answers
from tests.cloud.configs import FAULT_TOPICS
from tests.cloud.site import NODES, PASSWORD, PREFIX, REGION, Site
from tests.cloud.stage import Stage
from tests.deploy import tree
from tests.deploy.playing import COLLECTION, Ansible, Played
from tests.deploy.root import PIP, Root
from tests.deploy.tree import OPENSTACK
from tests.lab.processes import wait_until
from tests.rollout.lent import Lender, Lent
from tools.lib.prepare import ROOT

if TYPE_CHECKING:
    from typing_extensions import Self

SITE = COLLECTION / "playbooks" / "site.yml"
CONTROL = "control"
#: Where a host has the folder of MariaDB's socket. Not /tmp: a unit with PrivateTmp= has another one.
LENT = "/lent"

NOVA, MASAKARI = "/etc/nova/nova.conf", "/etc/masakari/masakari.conf"
UNIT = """[Unit]
Description={name}
After=network.target libvirtd.service
[Service]
{environment}
ExecStart={start}
Restart=on-failure
[Install]
WantedBy=multi-user.target
"""
#: How they are started, without us.
STARTS = {
    "nova-compute": f"{OPENSTACK}/bin/nova-compute --config-file {NOVA}",
    "masakari-engine": f"{OPENSTACK}/bin/masakari-engine --config-file {MASAKARI}",
    "nova-api": f"{OPENSTACK}/bin/python /usr/local/lib/serve.py nova.wsgi.osapi_compute {{port}}",
}
ENVIRONMENT = {
    "nova-api": 'Environment=OS_NOVA_CONFIG_DIR=/etc/nova "OS_NOVA_CONFIG_FILES=api-paste.ini;nova.conf;nova-db.conf"',
}
RUNS = {CONTROL: ("nova-api", "masakari-engine"), **dict.fromkeys(NODES, ("nova-compute",))}
GROUPS = {
    CONTROL: ("vmhb_nova_api", "vmhb_consumer", "vmhb_masakari"),
    **dict.fromkeys(NODES, ("vmhb_worker", "vmhb_nova_compute")),
}
#: Of Nova's configuration, what our role is to set.
BY_THE_ROLE = ("notifications", "oslo_messaging_notifications")
#: As the site's transport_url asks for: who declares a queue otherwise is refused.
DURABLE = {"oslo_messaging_rabbit": {"amqp_durable_queues": True}}


@dataclass(frozen=True)
class Hosted(Site):
    """A site whose compute nodes are hosts: node -> its files, seen from here."""

    trees: dict[str, pathlib.Path] = dataclasses.field(default_factory=dict)

    def libvirt_uri(self, node: str) -> str:
        """As here."""
        return f"qemu+unix:///system?socket={self.trees[node]}/run/libvirt/libvirt-sock"


class Rollout:
    """A cloud that is lent, its hosts, and the playbook. Use as a context manager.

    releases: of ours, that can be installed: version -> commit, "" is what there is now.
    """

    def __init__(self, releases: Mapping[str, str]) -> None:
        self._began = time.monotonic()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="vmhb-r-", dir="/tmp"))
        self.folder.chmod(0o755)
        self._releases = releases
        self._stack = contextlib.ExitStack()
        self._stack.callback(shutil.rmtree, self.folder)
        self.lent = Lent(Site(self.folder), self.tell)
        self.ansible = Ansible(self._made("ansible"))
        self.roots: dict[str, Root] = {}

    def __enter__(self) -> Self:
        try:
            self._up()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: types.TracebackType | None
    ) -> None:
        self._stack.close()

    def tell(self, text: str) -> None:
        """Whoever waits, on the test's output."""
        print(f"[{time.monotonic() - self._began:6.1f}] {text}", file=sys.stderr, flush=True)

    # -- what an operator does -----------------------------------------------------------------------------------------

    def play(self, *options: str, **variables: object) -> Played:
        """The one playbook; all that failed is raised."""
        began = time.monotonic()
        played = self.ansible.play(SITE, *options, **variables)
        changed = f"{len(played.changed)} changed, {len(played.failed)} failed"
        self.tell(f"played {' '.join(options)} {variables or ''}: {time.monotonic() - began:.0f} s, {changed}")
        assert played.failed == ()
        return played

    def furnish(self) -> Stage:
        """Images, flavors, the segment; whoever looks at the cloud from outside."""
        url = self.lent.site.url("nova", "/")
        wait_until(lambda: answers(url), ANSWERS, "nova-api answers", every=0.5)
        self.lent.furnish()
        stage = Stage(Lender(self.site))
        self._stack.callback(stage.close)
        return stage

    @property
    def site(self) -> Hosted:
        """Where all of it is."""
        lent = self.lent.site
        return Hosted(lent.folder, lent.transport_url, lent.ports, {node: self.roots[node].tree for node in NODES})

    def journal(self, lines: int = 60) -> str:
        """Of what is ours and theirs, on each host, the end."""
        units = ("vmhb-worker", "nova-vmhb-consumer", *STARTS)
        ask = f"journalctl -o cat --no-pager {' '.join(f'-u {unit}' for unit in units)}"
        ask += f" | grep -v requestlog | cut -c1-300 | tail -n {lines}"
        return "\n".join(f"== {name}\n{root.run(ask, check=False)}" for name, root in self.roots.items())

    # -- what is there before us ---------------------------------------------------------------------------------------

    def _up(self) -> None:
        wheels = self._made("wheels")
        for version, commit in self._releases.items():
            tree.ours(wheels, version, commit)
        self._stack.callback(self.lent.down)
        with ThreadPoolExecutor(1) as pool:
            cloud = pool.submit(self.lent.up)
            for name in RUNS:  # in this thread: they end with the thread that has booted them
                self.roots[name] = self._boot()
            cloud.result()
        for name in RUNS:
            self._install_openstack(name)
        self._write_inventory()
        self.tell("the hosts run Nova and Masakari, and nothing of ours")

    def _boot(self) -> Root:
        data = self._made("data")
        # Under its own name, too: Nova has written into its tables where the database of its cell is.
        return self._stack.enter_context(Root(binds={LENT: data, str(data): data}, wheels=self._made("wheels")))

    def _made(self, name: str) -> pathlib.Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def _install_openstack(self, name: str) -> None:
        """Its configuration, its units; those that stand for them elsewhere end."""
        root, site = self.roots[name], self.lent.site
        root.run("systemctl disable --now nova-compute masakari-engine 2>&1")
        # To Nova, two hypervisors of one name are one.
        root.run(f"echo {name} >/etc/hostname; hostname {name}; systemctl restart libvirtd")
        root.run("mkdir -p /var/lib/nova/instances")
        self._write(root, NOVA, _text(_nova(site, name), site))
        if name == CONTROL:
            self._write(root, "/etc/nova/nova-db.conf", _text(configs.nova_databases(site), site))
            self._write(root, MASAKARI, _text(_masakari(site), site))
            shutil.copy(PREFIX / "etc/nova/api-paste.ini", root.tree / "etc/nova")
            shutil.copy(ROOT / "tests/cloud/serve.py", root.tree / "usr/local/lib")
        for service in RUNS[name]:
            start = STARTS[service].format(port=site.ports["nova"])
            unit = UNIT.format(name=service, start=start, environment=ENVIRONMENT.get(service, ""))
            self._write(root, f"/etc/systemd/system/{service}.service", unit)
        root.run(f"systemctl daemon-reload; systemctl enable --now {' '.join(RUNS[name])} 2>&1")

    @staticmethod
    def _write(root: Root, path: str, text: str) -> None:
        configs.put(root.tree / path.lstrip("/"), text)

    def _write_inventory(self) -> None:
        broker, site = self.lent.broker, self.lent.site
        where = f"127.0.0.1:{broker.port}/{broker.vhost}"
        for name, root in self.roots.items():
            worker = {
                "vmhb_worker_host": name,
                "vmhb_worker_transport_url": f"rabbit://vmhb-{name}:worker@{where}",
            }
            self.ansible.host(name, GROUPS[name], root.enter(), root.shared, **(worker if name in NODES else {}))
        self.ansible.servers(broker)
        self.ansible.variables = _variables(site, where, broker.environ["RABBITMQ_NODENAME"], broker.vhost)


def _variables(site: Site, where: str, node: str, vhost: str) -> dict[str, object]:
    """What an operator says; and that pip finds all in two folders."""
    openstack = f"{OPENSTACK}/bin/python"
    topics = {"vmhb_notifications": {"topics": ",".join(FAULT_TOPICS)}}
    return {
        "vmhb_install_environment": PIP,
        **dict.fromkeys(("vmhb_install_source", "vmhb_hooks_source", "vmhb_masakari_source"), "nova-vmhb"),
        "vmhb_install_host_packages": [],
        "vmhb_broker_node": node,
        "vmhb_broker_vhost": vhost,
        "vmhb_broker_workers": dict.fromkeys(NODES, "worker"),
        "vmhb_broker_consumer_user": "vmhb-consumer",  # "vmhb" is Nova's own, in the lab
        "vmhb_broker_consumer_password": "consumer",
        "vmhb_broker_caller_password": "caller",
        "vmhb_broker_topics": list(FAULT_TOPICS),
        "vmhb_database_password": "database",
        "vmhb_database_login_user": "root",
        "vmhb_database_login_unix_socket": str(site.socket),
        "vmhb_database_driver_package": "",
        "vmhb_worker_quorum_queues": False,
        "vmhb_worker_config": {**DURABLE, **topics},
        "vmhb_consumer_quorum_queues": False,
        "vmhb_consumer_transport_url": f"rabbit://vmhb-consumer:consumer@{where}",
        "vmhb_consumer_database": f"mysql+pymysql://vmhb:database@localhost/vmhb?charset=utf8mb4&unix_socket={LENT}/mariadb.sock",
        "vmhb_consumer_keystone": {
            "auth_url": site.auth_url,
            "username": "masakari",
            "password": PASSWORD,
            "project_name": "service",
            "region_name": REGION,
        },
        "vmhb_consumer_config": {
            **DURABLE,
            **topics,
            # The lent cloud's services have no other addresses.
            "nova": {"valid_interfaces": "public"},
            "reporter_masakari": {"interface": "public", "process_all_instances": True},
        },
        "vmhb_hooks_python": openstack,
        "vmhb_hooks_environment": PIP,
        "vmhb_hooks_compute_start": STARTS["nova-compute"],
        "vmhb_masakari_python": openstack,
        "vmhb_masakari_environment": PIP,
        "vmhb_masakari_start": STARTS["masakari-engine"],
        "vmhb_masakari_transport_url": f"rabbit://vmhb-caller:caller@{where}?amqp_durable_queues=true",
        "vmhb_masakari_quorum_queues": False,
        "vmhb_masakari_options": {"heartbeat_time": 60},
    }


def _nova(site: Site, host: str) -> configs.Config:
    """As the other tool writes it: nothing in it is ours."""
    config = {group: dict(options) for group, options in configs.nova(site).items() if group not in BY_THE_ROLE}
    config["DEFAULT"] |= {"host": host, "state_path": "/var/lib/nova", "instances_path": "/var/lib/nova/instances"}
    del config["DEFAULT"]["log_dir"]
    config["oslo_concurrency"] = {"lock_path": "/var/lib/nova"}
    config["wsgi"] = {"api_paste_config": "/etc/nova/api-paste.ini"}
    del config["libvirt"]["live_migration_uri"]
    helper = {"helper_command": f"{OPENSTACK}/bin/privsep-helper --config-file {NOVA}"}
    return {**config, **{group: helper for group, options in config.items() if "helper_command" in options}}


def _masakari(site: Site) -> configs.Config:
    config = {group: dict(options) for group, options in configs.masakari(site).items()}
    del config["DEFAULT"]["log_dir"], config["wsgi"]
    return config


def _text(config: configs.Config, site: Site) -> str:
    """As a file, in which the databases are where a host has them."""
    return configs.text(config).replace(str(site.data), LENT)
