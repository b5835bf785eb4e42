"""What docs/security.rst gives to users of a broker is enough for our programs, and no more; and TLS as it says."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kombu
import pytest
from amqp.exceptions import AccessRefused
from oslo_config import cfg

from tests.conftest import Figure
from tests.functional.sites import Site
from tests.functional.test_refusal import ASKED, CHECKED, ask, queues
from tests.functional.test_reporting import new, wait_for
from tests.lab.broker import Broker, free_ports
from tests.lab.node import Node
from tests.stage.worker import WorkerProcess
from vmhb_common import worker_api
from vmhb_common.worker_api import WorkerAPI

pytestmark = pytest.mark.patient

DOCS = Path(__file__).parent.parent.parent / "docs"
RIGHTS, UNINSTALL = DOCS / "security.rst", DOCS / "uninstall.rst"
WORKER, CONSUMER, HEARS = "vmhb-compute-1", "vmhb", "vmhb-hears-nova"
#: The lab's own administrator has the name that the docs give to the consumers' user.
HERE = {CONSUMER: "vmhb-consumers"}


def commands(page: Path) -> list[list[str]]:
    """The words of each command for RabbitMQ that a page has."""
    joined = page.read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(line)[1:] for line in re.findall(r"(?m)^    (rabbitmqctl .*)$", joined)]


def give(site: Site, user: str) -> str:
    """Do what the page says for this user, in this test's virtual host; its transport URL."""
    name = HERE.get(user, user)
    vhost = urlsplit(site.url).path[1:]
    given = [command for command in commands(RIGHTS) if command[1] == user]
    assert [command[0] for command in given][:2] == ["add_user", "set_permissions"]
    for what, _, *rest in given:
        if what == "add_user":
            users = site.broker.ctl("list_users", "--no-table-headers").split()
            site.broker.ctl("change_password" if name in users else what, name, "SECRET")
        else:
            site.broker.ctl(what, "-p", vhost, name, *rest)
    return site.url.replace(f"{site.broker.user}:{site.broker.password}@", f"{name}:SECRET@")


def connected(url: str) -> Any:
    """A connection for the user of a transport URL."""
    untyped: Any = kombu
    split = urlsplit(url)
    return untyped.Connection(f"amqp://{split.netloc}/{split.path[1:]}")


def refused(url: str, deed: Callable[[Any], object]) -> bool:
    """May a user not do this?"""
    with connected(url) as connection, connection.channel() as channel:
        try:
            deed(channel)
        except AccessRefused:
            return True
    return False


@pytest.fixture
def made() -> Iterator[list[WorkerProcess]]:
    """Programs that end with the test."""
    started: list[WorkerProcess] = []
    yield started
    for one in started:
        if not one.ended:
            one.stop()


def listed(url: str, host: str) -> list[dict[str, Any]]:
    """What that host's worker answers to a caller with this URL."""
    conf = cfg.ConfigOpts()
    conf([], project="stage", default_config_files=[], default_config_dirs=[])
    return WorkerAPI(worker_api.get_transport(conf, url)).list(host)


def test_a_compute_node(site: Site, node: Node, made: list[WorkerProcess], tmp_path: Path, figure: Figure) -> None:
    """Its worker's check finds nothing, it announces itself, and is asked; what others are told it hears not."""
    reader = site.reader("vmhb_notifications")
    url, consumers = give(site, WORKER), give(site, CONSUMER)
    daemon = WorkerProcess(tmp_path / "worker", uri=node.uri, transport_url=url, host="compute-1")
    made.append(daemon)
    (daemon.folder / "state").mkdir(parents=True)
    assert ask(daemon, "--check-config", CHECKED, figure) == (0, "configuration is good\n")
    daemon.start()
    reader.wait_for("sign of life", lambda told: told.event_type == "vmhb.worker.alive", 30)
    wait_for(lambda: daemon.said("RPC is served") == 1, 30)
    assert listed(consumers, "compute-1") == []
    # What another one's worker has: its check makes it.
    other = WorkerProcess(tmp_path / "other", uri=node.uri, transport_url=site.url, host="compute-2")
    ask(other, "--check-config", CHECKED, figure)
    assert refused(url, lambda channel: channel.basic_get("vmhb_notifications.info"))
    assert refused(url, lambda channel: channel.basic_get("vmhb_worker.compute-2"))
    own = "vmhb_worker.compute-1"
    assert not refused(url, lambda channel: channel.basic_get(own))
    assert refused(url, lambda channel: channel.queue_bind(own, "vmhb", "vmhb_worker.compute-2")), "a copy"


def test_a_consumer(site: Site, made: list[WorkerProcess], figure: Figure) -> None:
    """It reads faults, asks workers, and is asked itself; workers' queues it may not read."""
    workers, consumer = site.workers("cn1"), site.consumer(start=False)
    made.append(consumer)
    url = give(site, CONSUMER)
    consumer.set("DEFAULT", "transport_url", url)
    (consumer.folder / "state").mkdir(parents=True)
    assert ask(consumer, "--check-config", CHECKED, figure) == (0, "configuration is good\n")
    consumer.start()
    wait_for(lambda: consumer.said("RPC is served") > 0)
    workers.publish(new(1))
    wait_for(lambda: len(consumer.told("recovering")) == 1, 30)
    assert workers.asked, "before a recovery the worker is asked"
    assert ask(consumer, "--status", ASKED, figure)[0] == 0
    assert refused(url, lambda channel: channel.basic_get("vmhb_worker.cn1"))


def test_who_hears_of_instances(site: Site, made: list[WorkerProcess], tmp_path: Path, figure: Figure) -> None:
    """On Nova's broker it makes and reads the queues of our own topic; it publishes nothing, nor reads Nova's."""
    url = give(site, HEARS)
    with connected(site.url) as connection:
        channel = connection.channel()
        channel.exchange_declare("nova", "topic", durable=True, auto_delete=False)
        channel.queue_declare("versioned_notifications.info", durable=True, auto_delete=False)
    consumer = WorkerProcess(
        tmp_path / "consumer",
        uri="",
        transport_url=give(site, CONSUMER),
        options={"consumer": {"halves": "instances"}, "nova_notifications": {"transport_url": url}},
    )
    consumer.program = ("-m", "vmhb_consumer.cmd.consumer")
    made.append(consumer)
    (consumer.folder / "state").mkdir(parents=True)
    del consumer._options["libvirt"]
    assert ask(consumer, "--check-config", CHECKED, figure) == (0, "configuration is good\n")
    consumer.start()
    wait_for(lambda: consumer.said("listening to") > 0, 30)
    wait_for(lambda: "vmhb_instances.info" in queues(site), 30)
    assert refused(url, lambda channel: channel.basic_get("versioned_notifications.info"))


def test_what_is_taken_away(site: Site, tmp_path: Path) -> None:
    """The commands of docs/uninstall.rst: queues, users and policies that were there are not there any more."""
    vhost = urlsplit(site.url).path[1:]
    policies = (UNINSTALL.parent.parent / "etc/rabbitmq/vmhb-policies.json").read_text(encoding="utf-8")
    (tmp_path / "policies.json").write_text(policies.replace('"vhost": "/"', f'"vhost": "{vhost}"'))
    site.broker.ctl("import_definitions", str(tmp_path / "policies.json"))
    give(site, WORKER)
    with connected(site.url) as connection:
        for queue in ("vmhb_instances.info", "vmhb_instances.error", "vmhb_notifications.info"):
            connection.channel().queue_declare(queue, durable=True, auto_delete=False)
    for what, *words in commands(UNINSTALL):
        site.broker.ctl(what, *([] if what == "delete_user" else ["-p", vhost]), *words)
    assert queues(site) == []
    assert WORKER not in site.broker.ctl("list_users", "--no-table-headers")
    assert "vmhb-faults" not in site.broker.ctl("list_policies", "-p", vhost)


# -- TLS ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Certificates:
    """A CA, and another one; a server's certificate by the first, for the name that is said."""

    folder: Path

    def make(self, name: str) -> Certificates:
        for ca in ("ca", "other"):
            self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={ca}", *self._out(ca))
        given = ("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", f"subjectAltName={name}")
        new_key = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=rabbit", *given)
        self._openssl(*new_key, "-addext", "basicConstraints=critical,CA:FALSE", *self._out("server"))
        return self

    def _out(self, name: str) -> tuple[str, ...]:
        return "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2"

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)


#: Lines of rabbitmq.conf: as RabbitMQ's manual has them.
TLS = """\
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = {folder}/ca.pem
ssl_options.certfile = {folder}/server.pem
ssl_options.keyfile = {folder}/server.key
ssl_options.verify = verify_none
"""


def check_with(broker: Broker, port: int, folder: Path, options: dict[str, object], figure: Figure) -> str:
    """What a worker's check says of this broker, by TLS, with these options of [oslo_messaging_rabbit]."""
    url = f"rabbit://{broker.user}:{broker.password}@127.0.0.1:{port}/{broker.vhost}"
    none = f"qemu+unix:///system?socket={folder}/none"
    given = {"oslo_messaging_rabbit": {"ssl": "true", "amqp_durable_queues": "true", **options}}
    daemon = WorkerProcess(folder / "worker", uri=none, transport_url=url, host="cn1", options=given)
    (daemon.folder / "state").mkdir(parents=True, exist_ok=True)
    _, said = ask(daemon, "--check-config", CHECKED, figure)
    return next((line for line in said.splitlines() if line.startswith("[DEFAULT] transport_url")), "")


@pytest.mark.long
def test_tls(tmp_path: Path, figure: Figure) -> None:
    """By TLS faults are delivered and workers asked; a certificate of another authority's is refused, and said."""
    Certificates(tmp_path).make("IP:127.0.0.1")
    (port,) = free_ports(1)
    with Broker(more=TLS.format(port=port, folder=tmp_path)) as broker:
        ours, other = {"ssl_ca_file": tmp_path / "ca.pem"}, {"ssl_ca_file": tmp_path / "other.pem"}
        assert check_with(broker, port, tmp_path, {**ours}, figure) == ""
        assert "CERTIFICATE_VERIFY_FAILED" in check_with(broker, port, tmp_path, {**other}, figure)
        url = f"rabbit://{broker.user}:{broker.password}@127.0.0.1:{port}/{broker.vhost}"
        url += f"?amqp_durable_queues=true&ssl=true&ssl_ca_file={tmp_path / 'ca.pem'}"
        site = Site(tmp_path, broker, url)
        try:
            workers, consumer = site.workers("cn1"), site.consumer()
            workers.publish(new(1))
            wait_for(lambda: len(consumer.told("recovering")) == 1, 30)
            assert workers.asked
        finally:
            site.close()
