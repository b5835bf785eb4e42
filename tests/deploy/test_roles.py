"""The collection's playbook, on a Debian with systemd, a real RabbitMQ and a real MariaDB: it brings all in, changes
nothing when it is run again, touches nothing that is another tool's, and `--check` tells without doing.

The tests build on each other, in this order: what the first has brought in, the others look at.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.deploy.playing import COLLECTION, Ansible
from tests.deploy.root import PIP, Root
from tests.deploy.tree import OPENSTACK
from tests.lab.broker import Broker
from tests.lab.mariadb import MariaDB
from tests.lab.processes import wait_until

SITE = COLLECTION / "playbooks" / "site.yml"
#: What the roles may write to. All of it is compared.
FOLDERS = ("/etc", "/opt", "/usr/local")
#: What a new user and its group are written into.
USERS = {f"etc/{name}" for name in ("group", "group-", "gshadow", "gshadow-", "passwd", "passwd-", "shadow", "shadow-")}
COMPUTE = "compute-1"


@dataclass
class Cloud:
    """What the roles work on."""

    root: Root
    broker: Broker
    database: MariaDB
    ansible: Ansible


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """One host that is everything, whose RabbitMQ and MariaDB are the lab's."""
    folder = tmp_path_factory.mktemp("ansible")
    with Broker() as broker, MariaDB() as database, Root() as root:
        ansible = Ansible(folder)
        groups = ("vmhb_nova_api", "vmhb_nova_compute", "vmhb_consumer", "vmhb_worker", "vmhb_masakari")
        ansible.host("node", groups, root.enter(), root.shared)
        ansible.servers(broker)
        ansible.variables = _variables(broker, database)
        yield Cloud(root, broker, database, ansible)


def _variables(broker: Broker, database: MariaDB) -> dict[str, object]:
    """What an operator says; and that pip finds all in a folder."""
    where = f"127.0.0.1:{broker.port}/{broker.vhost}"
    openstack = f"{OPENSTACK}/bin/python"
    return {
        "vmhb_install_environment": PIP,
        **dict.fromkeys(("vmhb_install_source", "vmhb_hooks_source", "vmhb_masakari_source"), "nova-vmhb"),
        "vmhb_install_host_packages": [],
        "vmhb_broker_node": broker.environ["RABBITMQ_NODENAME"],
        "vmhb_broker_vhost": broker.vhost,
        "vmhb_broker_workers": {COMPUTE: "worker's"},
        "vmhb_broker_consumer_password": "consumer's",
        "vmhb_broker_caller_password": "caller's",
        "vmhb_database_name": "cloud_vmhb",
        "vmhb_database_user": "cloud_vmhb",
        "vmhb_database_password": "database's",
        "vmhb_database_login_user": "root",
        "vmhb_database_login_unix_socket": str(database.socket),
        "vmhb_database_driver_package": "",
        "vmhb_worker_host": COMPUTE,
        "vmhb_worker_transport_url": f"rabbit://vmhb-{COMPUTE}:worker%27s@{where}",
        "vmhb_consumer_transport_url": f"rabbit://vmhb:consumer%27s@{where}",
        "vmhb_consumer_database": f"mysql+pymysql://cloud_vmhb:database%27s@127.0.0.1:{database.port}/cloud_vmhb?charset=utf8mb4",
        "vmhb_consumer_reporters": ["log"],
        "vmhb_hooks_python": openstack,
        "vmhb_hooks_environment": PIP,
        "vmhb_hooks_services": {"api": "nova-compute", "compute": "nova-compute"},
        # Their units name a file and no folder, which would lose against it.
        "vmhb_hooks_compute_start": "/usr/local/lib/stand-in nova-compute /etc/nova/nova.conf",
        "vmhb_masakari_start": "/usr/local/lib/stand-in masakari-engine /etc/masakari/masakari.conf",
        "vmhb_masakari_python": openstack,
        "vmhb_masakari_environment": PIP,
        "vmhb_masakari_transport_url": f"rabbit://vmhb-caller:caller%27s@{where}",
    }


def test_checked_first(cloud: Cloud) -> None:
    """On hosts that have nothing of it, `--check` fails nowhere, tells of everything, and does nothing."""
    before = cloud.root.files(*FOLDERS)
    played = cloud.ansible.play(SITE, "--check")
    assert played.failed == ()
    assert len(played.changed) > 20
    assert cloud.root.files(*FOLDERS) == before
    assert "cloud_vmhb" not in cloud.broker.ctl("list_users")


def test_brought_in(cloud: Cloud) -> None:
    """One run, and worker and consumer run, with the rights they were given; Nova and Masakari load what is ours."""
    before = cloud.root.files(*FOLDERS)
    played = cloud.ansible.play(SITE)
    assert played.failed == ()
    after = cloud.root.files(*FOLDERS)
    assert {name for name in before if after.get(name) != before[name]} <= USERS
    for service in ("vmhb-worker", "nova-vmhb-consumer"):
        assert cloud.root.run(f"systemctl is-active {service}").strip() == "active"
    nova = cloud.root.seen("nova-compute")
    assert (nova["driver"], nova["format"]) == ("nova_vmhb.driver", "versioned")
    assert nova["topics"] == ["versioned_notifications", "vmhb_instances"]
    assert "messagingv2" in nova["notifies"]
    masakari = cloud.root.seen("masakari-engine")
    assert masakari["loads"] == ["vmhb_confirm_heartbeat", "vmhb_start_unless_rebooted", "vmhb_stop_or_reboot"]
    assert "vmhb_stop_or_reboot" in json.dumps(masakari["tasks"])


def test_the_consumer_hears_the_worker(cloud: Cloud) -> None:
    """Across the broker, each with its own user: nothing of what they do is refused."""
    ask = "nova-vmhb-consumer --status --config-file /etc/vmhb/nova-vmhb-consumer.conf"

    def heard() -> bool:
        told = cloud.root.run(ask, check=False)
        return told.startswith("{") and json.loads(told)["counts"]["workers"] == 1

    try:
        wait_until(heard, 120, "the consumer tells of the worker", every=3)
    finally:
        journal = cloud.root.run("journalctl -o cat --no-pager -u vmhb-worker -u nova-vmhb-consumer", check=False)
        print(journal[-6000:], file=sys.stderr)
    assert "ACCESS_REFUSED" not in journal
    refused = (cloud.broker.folder / "log").glob("*.log")
    assert not [line for path in refused for line in path.read_text().splitlines() if "access_refused" in line]


def test_again(cloud: Cloud) -> None:
    """A second run changes nothing, restarts nothing, and says so beforehand."""
    before = cloud.root.files(*FOLDERS)
    began = cloud.root.run("systemctl show -P MainPID vmhb-worker nova-vmhb-consumer nova-compute")
    assert cloud.ansible.play(SITE, "--check").changed == ()
    played = cloud.ansible.play(SITE)
    assert (played.changed, played.failed) == ((), ())
    assert cloud.root.files(*FOLDERS) == before
    assert cloud.root.run("systemctl show -P MainPID vmhb-worker nova-vmhb-consumer nova-compute") == began


def test_after_the_others_wrote_theirs_anew(cloud: Cloud) -> None:
    """Nova's and Masakari's tool writes its files anew: ours has nothing to do, and still holds."""
    cloud.root.rewrite("/var/lib/nova-of-another-release")
    cloud.root.run("systemctl restart nova-compute masakari-engine")
    played = cloud.ansible.play(SITE)
    assert (played.changed, played.failed) == ((), ())
    nova = cloud.root.seen("nova-compute")
    assert nova["state"] == "/var/lib/nova-of-another-release"
    assert nova["driver"] == "nova_vmhb.driver"


def test_nova_was_installed_anew(cloud: Cloud) -> None:
    """With Nova's own files the driver's goes: nova-compute's next start has it again, whoever starts it."""
    cloud.root.run(f"{OPENSTACK}/bin/python -m nova_vmhb.cmd.driver remove && systemctl restart nova-compute")
    assert cloud.root.seen("nova-compute")["driver"] == "nova_vmhb.driver"
    assert cloud.ansible.play(SITE).changed == ()


def test_one_option(cloud: Cloud) -> None:
    """What the operator changes is one file and one restart; `--check` tells of it; the operator's own file stays."""
    own = cloud.root.tree / "etc/vmhb/vmhb-worker.conf"
    before = own.read_text()
    own.write_text("[policy]\ninterval = 20\n")
    config = {"policy": {"min_interval": 5}}
    foretold = cloud.ansible.play(SITE, "--check", vmhb_worker_config=config)
    assert [name.rpartition(" : ")[2] for name in foretold.changed] == ["Configure it"]
    consumer = cloud.root.run("systemctl show -P MainPID nova-vmhb-consumer")
    played = cloud.ansible.play(SITE, vmhb_worker_config=config)
    assert [name.rpartition(" : ")[2] for name in played.changed] == ["Configure it", "Restart vmhb-worker"]
    assert own.read_text() == "[policy]\ninterval = 20\n"
    assert cloud.root.run("systemctl show -P MainPID nova-vmhb-consumer") == consumer
    assert cloud.ansible.play(SITE, vmhb_worker_config=config).changed == ()
    own.write_text(before)
    back = cloud.ansible.play(SITE)
    assert [name.rpartition(" : ")[2] for name in back.changed] == ["Configure it", "Restart vmhb-worker"]


def test_a_lost_right_is_given_again(cloud: Cloud) -> None:
    """What somebody changed on the broker or in the database by hand is as it was, after the next run."""
    cloud.broker.ctl("set_permissions", "-p", cloud.broker.vhost, "vmhb", ".*", ".*", ".*")
    cloud.broker.ctl("clear_policy", "-p", cloud.broker.vhost, "vmhb-faults")
    foretold = cloud.ansible.play(SITE, "--check")
    assert [name.rpartition(" : ")[2] for name in foretold.changed] == [
        "Look at what it may do now",
        "Bound the queues that nobody may read",
    ]
    played = cloud.ansible.play(SITE)
    assert [name.rpartition(" : ")[2] for name in played.changed] == [
        "Make the user, and say what it may do",
        "Bound the queues that nobody may read",
    ]
    assert cloud.ansible.play(SITE).changed == ()
