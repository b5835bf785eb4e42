"""What etc/rabbitmq/vmhb-rights gives to users of a broker is enough for our programs, and no more; and --check-config
tells where it is not."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import amqp
import kombu
import oslo_messaging
import pytest
from amqp.exceptions import AccessRefused
from oslo_config import cfg

from tests.conftest import Figure
from tests.functional.sites import Site
from tests.functional.test_refusal import ASKED, CHECKED, ask
from tests.functional.test_reporting import new, wait_for
from tests.lab.broker import BIN
from tests.lab.node import Node
from tests.stage.control_plane import FaultConsumer
from tests.stage.worker import WorkerProcess
from vmhb_common import worker_api
from vmhb_common.worker_api import WorkerAPI

pytestmark = pytest.mark.patient

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "etc/rabbitmq/vmhb-rights"
UNINSTALL = ROOT / "docs/uninstall.rst"
NODE, OTHER = "compute-1", "compute-2"
#: The consumers' virtual host's exchange and queue of faults, and a compute node's own queue of RPC.
FAULTS, OWN, THEIRS = "vmhb_notifications.info", f"vmhb_worker.{NODE}", f"vmhb_worker.{OTHER}"


@dataclass
class Layout:
    """A test's virtual hosts: of RPC, that of its site; of faults, another one or the same."""

    site: Site
    apart: bool = True
    made: list[WorkerProcess] = field(default_factory=list)

    @property
    def rpc(self) -> str:
        return urlsplit(self.site.url).path[1:]

    @property
    def faults(self) -> str:
        return f"{self.rpc}-faults" if self.apart else self.rpc

    def run(self, *words: str, password: bool = True) -> subprocess.CompletedProcess[str]:
        """The script, with these virtual hosts. password: said, rather than made up."""
        where = ["--rabbitmqctl", str(BIN / "rabbitmqctl"), "-p", self.rpc, "--faults-vhost", self.faults]
        return subprocess.run(
            [str(SCRIPT), *where, *(["--password-file", "-"] if password else []), *words],
            env=self.site.broker.environ,
            input="SECRET\n",
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def give(self, kind: str, *words: str) -> str:
        """What the script gives to a user of this kind, of a name of this test's own. The name."""
        user = f"{self.rpc[:60]}-{kind}-{'-'.join(word for word in words if not word.startswith('-'))}"
        done = self.run("--user", user, kind, *words)
        assert done.returncode == 0, done.stderr
        return user

    def url(self, user: str, vhost: str | None = None) -> str:
        """Its transport URL."""
        broker = self.site.broker
        return f"rabbit://{user}:SECRET@127.0.0.1:{broker.port}/{vhost or self.rpc}?amqp_durable_queues=true"

    def worker(self, user: str, uri: str, host: str = NODE, own_only: bool = True) -> WorkerProcess:
        """A node's."""
        options: dict[str, dict[str, object]] = {
            "DEFAULT": {"own_queue_only": own_only},
            "vmhb_notifications": {"transport_url": self.url(user, self.faults)},
        }
        folder = self.site.folder / host
        one = WorkerProcess(folder, uri=uri, transport_url=self.url(user), host=host, options=options)
        (folder / "state").mkdir(parents=True, exist_ok=True)
        self.made.append(one)
        return one

    def consumer(self, user: str) -> FaultConsumer:
        """One that reads faults; not started."""
        one = self.site.consumer(start=False)
        one.set("DEFAULT", "transport_url", self.url(user))
        one.set("vmhb_notifications", "transport_url", self.url(user, self.faults))
        (one.folder / "state").mkdir(parents=True, exist_ok=True)
        self.made.append(one)
        return one

    def queues(self, vhost: str | None = None) -> list[str]:
        said = self.site.broker.ctl("list_queues", "-p", vhost or self.rpc, "--no-table-headers", "name")
        return sorted(said.split())

    def close(self) -> None:
        for one in self.made:
            if not one.ended:
                one.stop()


@pytest.fixture
def layout(site: Site) -> Iterator[Layout]:
    """Two virtual hosts, as docs/security.rst has them."""
    one = Layout(site)
    yield one
    one.close()


def connected(url: str) -> Any:
    """A connection for the user of a transport URL."""
    untyped: Any = kombu
    split = urlsplit(url)
    return untyped.Connection(f"amqp://{split.netloc}/{split.path[1:]}")


def refused(url: str, deed: Callable[[Any], object]) -> bool:
    """May a user not do this?"""
    with connected(url) as connection:
        try:
            with connection.channel() as channel:
                deed(channel)
                channel.queue_declare("amq.rabbitmq.none", passive=True)  # so that a refusal has come
        except AccessRefused:
            return True
        except amqp.NotFound:
            return False
    return False


def listed(url: str, host: str) -> list[dict[str, Any]]:
    """What that host's worker answers to a caller with this URL."""
    conf = cfg.ConfigOpts()
    conf([], project="stage", default_config_files=[], default_config_dirs=[])
    with worker_api.asking(conf, url) as transport:
        return WorkerAPI(transport).list(host)


def counts(consumer: FaultConsumer, figure: Figure) -> str:
    code, said = ask(consumer, "--status", ASKED, figure)
    assert code == 0, said
    return said


# -- enough ------------------------------------------------------------------------------------------------------------


def test_a_node_and_the_consumers(layout: Layout, node: Node, figure: Figure) -> None:
    """Of both the check finds nothing. The node announces itself, and is asked; also after its connections broke."""
    consumer, user = layout.consumer(layout.give("consumer")), layout.give("worker", NODE)
    daemon = layout.worker(user, node.uri)
    code, said = ask(daemon, "--check-config", CHECKED, figure)
    assert code == 1 and "has no exchange 'vmhb'" in said, "the consumers make what all share"
    assert ask(consumer, "--check-config", CHECKED, figure) == (0, "configuration is good\n")
    consumer.start()
    wait_for(lambda: consumer.said("RPC is served") > 0, 30)
    assert ask(daemon, "--check-config", CHECKED, figure) == (0, "configuration is good\n")
    daemon.start()
    wait_for(lambda: daemon.said("RPC is served") == 1, 30)
    wait_for(lambda: '"workers": 1' in counts(consumer, figure), 60)
    assert layout.queues() == sorted([OWN, *(name for name in layout.queues() if "vmhb_worker" not in name)])
    caller = layout.url(layout.give("caller"))
    assert listed(caller, NODE) == []
    layout.site.broker.ctl("close_all_connections", "--global", "the test says so")
    wait_for(lambda: answers(caller), 60)
    for program in (daemon, consumer):
        assert program.said("ACCESS_REFUSED") == 0, program.log.read_text()


def test_what_all_share_is_away_for_a_while(furnished: Layout) -> None:
    """As after a restart of a broker that keeps nothing, until a consumer is there: the node is asked again afterwards,
    and its faults are kept meanwhile."""
    ctl, site = furnished.site.broker.ctl, furnished.site
    daemon = furnished.worker(furnished.give("worker", NODE), "qemu+unix:///system?socket=/none")
    daemon.start()
    wait_for(lambda: daemon.said("RPC is served") == 1, 60)
    caller = furnished.url(furnished.give("caller"))
    assert listed(caller, NODE) == []
    vhosts = (furnished.rpc, furnished.faults)
    for vhost in vhosts:
        with connected(site.url.replace(furnished.rpc, vhost)) as connection, connection.channel() as channel:
            channel.exchange_delete("vmhb")
    ctl("close_all_connections", "--global", "the test says so")
    time.sleep(8)
    for vhost in vhosts:
        with connected(site.url.replace(furnished.rpc, vhost)) as connection, connection.channel() as channel:
            channel.exchange_declare("vmhb", "topic", durable=True, auto_delete=False)
            if vhost == furnished.faults:
                channel.queue_bind(FAULTS, "vmhb", FAULTS)

    wait_for(lambda: answers(caller), 90)
    assert daemon.said("ACCESS_REFUSED") == 0


def answers(caller: str) -> bool:
    """Does the node's worker?"""
    try:
        return listed(caller, NODE) == []
    except oslo_messaging.MessagingTimeout:
        return False


def test_a_node_that_makes_what_all_share(layout: Layout, node: Node, figure: Figure) -> None:
    """--makes-shared is enough for a worker as it is by default, where no consumer runs, and of the release before."""
    daemon = layout.worker(layout.give("worker", NODE, "--makes-shared"), node.uri, own_only=False)
    assert ask(daemon, "--check-config", CHECKED, figure) == (0, "configuration is good\n")
    daemon.start()
    wait_for(lambda: daemon.said("RPC is served") == 1, 30)
    assert listed(layout.url(layout.give("caller")), NODE) == []
    wait_for(lambda: layout.site.broker.ctl("list_queues", "-p", layout.faults, "messages").split()[-1] != "0", 30)
    assert daemon.said("ACCESS_REFUSED") == 0


def test_before_a_recovery(layout: Layout, figure: Figure) -> None:
    """The consumers' user may ask workers; and so that they are asked, one virtual host will do as well as two."""
    layout.apart = False
    workers, consumer = layout.site.workers("cn1"), layout.consumer(layout.give("consumer"))
    consumer.start()
    wait_for(lambda: consumer.said("RPC is served") > 0)
    workers.publish(new(1))
    wait_for(lambda: len(consumer.told("recovering")) == 1, 30)
    assert workers.asked, "before a recovery the worker is asked"


def test_who_hears_of_instances(layout: Layout, figure: Figure) -> None:
    """On Nova's broker it makes and reads the queues of our own topic; it publishes nothing, nor reads Nova's."""
    user = layout.give("hears-nova")
    with connected(layout.site.url) as connection, connection.channel() as channel:
        channel.exchange_declare("nova", "topic", durable=True, auto_delete=False)
        channel.queue_declare("versioned_notifications.info", durable=True, auto_delete=False)
    consumer = layout.consumer(layout.give("consumer"))
    consumer.set("consumer", "halves", "instances")
    consumer.set("nova_notifications", "transport_url", layout.url(user))
    assert ask(consumer, "--check-config", CHECKED, figure) == (0, "configuration is good\n")
    assert layout.queues() == ["versioned_notifications.info"], "a check takes away what it made"
    consumer.start(wait=False)
    wait_for(lambda: consumer.said("listening to") > 0, 30)
    wait_for(lambda: "vmhb_instances.info" in layout.queues(), 30)
    url = layout.url(user)
    assert refused(url, lambda channel: channel.basic_get("versioned_notifications.info"))
    assert refused(url, lambda channel: channel.basic_publish(amqp.Message(b"{}"), "nova", "vmhb_instances.info"))
    spied = "versioned_notifications.info"
    assert refused(url, lambda channel: channel.queue_bind("vmhb_instances.info", "nova", spied))


def test_nothing_is_left_of_who_asked(layout: Layout, figure: Figure) -> None:
    """--status, Python and nova-vmhb-manage leave no queue for replies behind."""
    user = layout.give("consumer")
    consumer = layout.consumer(user)
    consumer.start()
    layout.site.workers("cn1")
    wait_for(lambda: consumer.said("RPC is served") > 0)
    counts(consumer, figure)  # whatever the consumer itself has need of is there by now
    before = layout.queues()
    counts(consumer, figure)
    ask(consumer, "--check-config", CHECKED, figure)
    with pytest.raises(oslo_messaging.MessagingTimeout):
        listed(layout.url(user), "nobody")
    assert layout.queues() == before


# -- and no more -------------------------------------------------------------------------------------------------------

PUBLISH = amqp.Message(b"{}")


@dataclass(frozen=True)
class Deed:
    """What somebody tries. faults: in that virtual host, rather than in that of RPC."""

    what: str
    deed: Callable[[Any], object]
    faults: bool = False


READS = [
    Deed("read the faults", lambda channel: channel.basic_get(FAULTS), faults=True),
    Deed("read what another node is told", lambda channel: channel.basic_get(THEIRS)),
    Deed("read what consumers are asked", lambda channel: channel.basic_get("vmhb_consumer")),
    Deed("read answers to others", lambda channel: channel.basic_get("reply_0")),
]
SPIES = [
    Deed("copies of faults", lambda channel: channel.queue_bind(FAULTS, "vmhb", FAULTS), faults=True),
    Deed("copies of what another node is told", lambda channel: channel.queue_bind(OWN, "vmhb", THEIRS)),
    Deed("copies of what all nodes are told", lambda channel: channel.queue_bind(OWN, "vmhb", "#")),
    Deed("copies of what consumers are asked", lambda channel: channel.queue_bind(OWN, "vmhb", "vmhb_consumer")),
    Deed("a queue of one's own", lambda channel: channel.queue_declare("spy", durable=True), faults=True),
]
POSES = [
    Deed("serve RPC as another node", lambda channel: channel.queue_declare(THEIRS, durable=True, auto_delete=False)),
    Deed("serve RPC as a consumer", lambda channel: channel.basic_consume("vmhb_consumer")),
    Deed("tell another node, by the exchange", lambda channel: channel.basic_publish(PUBLISH, "vmhb", THEIRS)),
    Deed("ask consumers, by the exchange", lambda channel: channel.basic_publish(PUBLISH, "vmhb", "vmhb_consumer")),
    Deed("another topic", lambda channel: channel.basic_publish(PUBLISH, "vmhb", "notifications.info"), faults=True),
]
BREAKS = [
    Deed("empty the queue of faults", lambda channel: channel.queue_purge(FAULTS), faults=True),
    Deed("delete the queue of faults", lambda channel: channel.queue_delete(FAULTS), faults=True),
    Deed("unbind it", lambda channel: channel.queue_unbind(FAULTS, "vmhb", FAULTS), faults=True),
    Deed("delete the exchange of faults", lambda channel: channel.exchange_delete("vmhb"), faults=True),
    Deed("delete the exchange of RPC", lambda channel: channel.exchange_delete("vmhb")),
    Deed("delete another node's queue", lambda channel: channel.queue_delete(THEIRS)),
    Deed("delete the consumers' queue", lambda channel: channel.queue_delete("vmhb_consumer")),
    Deed("write into a queue of faults past its exchange", lambda c: c.basic_publish(PUBLISH, "", FAULTS), faults=True),
]
#: What a node's user still can: docs/security.rst says so, and what is done about it.
REMAINS = [
    Deed("say faults, of whomever", lambda channel: channel.basic_publish(PUBLISH, "vmhb", FAULTS), faults=True),
    Deed("write into another node's queue past the exchange", lambda c: c.basic_publish(PUBLISH, "", THEIRS)),
    Deed("write into the consumers' queue past the exchange", lambda c: c.basic_publish(PUBLISH, "", "vmhb_consumer")),
    Deed("read what it is told itself", lambda channel: channel.basic_get(OWN)),
]


@pytest.fixture
def furnished(layout: Layout) -> Layout:
    """What workers and consumers have on the broker while they run; nobody reads."""
    layout.give("consumer")  # makes the virtual hosts
    for vhost in (layout.rpc, layout.faults):
        layout.site.broker.ctl("set_permissions", "-p", vhost, layout.site.broker.user, ".*", ".*", ".*")
        url = layout.site.url.replace(layout.rpc, vhost)
        with connected(url) as connection, connection.channel() as channel:
            channel.exchange_declare("vmhb", "topic", durable=True, auto_delete=False)
            for queue in [FAULTS] if vhost == layout.faults else [OWN, THEIRS, "vmhb_consumer", "reply_0"]:
                channel.queue_declare(queue, durable=True, auto_delete=False)
                channel.queue_bind(queue, "vmhb", queue)
    return layout


def test_what_a_node_cannot_do(furnished: Layout) -> None:
    """It reads nothing but its own, has copies of nothing, answers and asks as nobody else, and breaks nothing that is
    others'. What it can is what the docs say."""
    user = furnished.give("worker", NODE)
    where = {True: furnished.url(user, furnished.faults), False: furnished.url(user)}
    allowed = [one.what for one in [*READS, *SPIES, *POSES, *BREAKS] if not refused(where[one.faults], one.deed)]
    assert allowed == []
    assert [one.what for one in REMAINS if refused(where[one.faults], one.deed)] == []


def test_what_a_stranger_cannot_do(furnished: Layout) -> None:
    """Another service's user, with all rights in a virtual host of its own, is not let in."""
    ctl, name = furnished.site.broker.ctl, f"{furnished.rpc[:60]}-cinder"
    ctl("add_user", name, "SECRET")
    ctl("set_permissions", "-p", furnished.site.broker.vhost, name, ".*", ".*", ".*")
    for vhost in (furnished.rpc, furnished.faults):
        with pytest.raises((AccessRefused, amqp.NotAllowed)), connected(furnished.url(name, vhost)) as connection:
            connection.connect()


def test_what_a_consumer_cannot_do(furnished: Layout) -> None:
    """It reads no node's queue, and has no copy of what one is told."""
    url = furnished.url(furnished.give("consumer"))
    assert refused(url, lambda channel: channel.basic_get(THEIRS))
    assert refused(url, lambda channel: channel.queue_bind("vmhb_consumer", "vmhb", THEIRS))
    assert refused(url, lambda channel: channel.queue_delete(THEIRS))


@pytest.mark.parametrize(("kind", "key"), [("caller", "vmhb_consumer"), ("vitrage", THEIRS)])
def test_what_those_who_ask_cannot_do(furnished: Layout, kind: str, key: str) -> None:
    """They ask whom they are there to ask, and read their answers."""
    url = furnished.url(furnished.give(kind))
    assert refused(url, lambda channel: channel.basic_publish(PUBLISH, "vmhb", key))
    assert refused(url, lambda channel: channel.basic_publish(PUBLISH, "", THEIRS))
    assert [one.what for one in READS[1:3] if not refused(url, one.deed)] == []


# -- the check tells ---------------------------------------------------------------------------------------------------

NONE = "^$"


@dataclass(frozen=True)
class Lack:
    """A right that a user has not: which of configure, write and read, in which virtual host; or which keys."""

    what: str
    which: int
    but: str
    faults: bool = False
    topic: bool = False


OF_A_WORKER = [
    Lack("make its queue", 0, NONE),
    Lack("answer", 1, rf"^{re.escape(OWN)}$"),
    Lack("bind its queue", 1, r"^amq\.default$"),
    Lack("read its queue", 2, "^vmhb$"),
    Lack("hear its key", 1, NONE, topic=True),
    Lack("send to the exchange", 1, NONE, faults=True),
    Lack("send that key", 0, NONE, faults=True, topic=True),
]
OF_A_CONSUMER = [
    Lack("have replies", 0, r"^(vmhb|vmhb_consumer.*)$"),
    Lack("read replies", 2, r"^(vmhb|vmhb_consumer.*)$"),
    Lack("answer", 1, r"^(vmhb|vmhb_consumer.*|reply_.*)$"),
    Lack("ask workers", 0, r"^vmhb_consumer$", topic=True),
    Lack("serve", 2, r"^(vmhb|reply_.*)$"),
    Lack("read faults", 2, "^vmhb$", faults=True),
    Lack("publish", 0, NONE, faults=True, topic=True),
]


def take(layout: Layout, user: str, lack: Lack) -> None:
    """All of its rights as the script gives them, but for one."""
    ctl, vhost = layout.site.broker.ctl, layout.faults if lack.faults else layout.rpc
    what = "list_user_topic_permissions" if lack.topic else "list_user_permissions"
    rows = [row.split("\t") for row in ctl(what, user, "--no-table-headers").splitlines()]
    found = next(row for row in rows if row[0] == vhost)
    words = found[1:]
    words[lack.which + (1 if lack.topic else 0)] = lack.but
    ctl("set_topic_permissions" if lack.topic else "set_permissions", "-p", vhost, user, *words)


@pytest.mark.parametrize("lack", OF_A_WORKER, ids=lambda lack: lack.what)
def test_a_workers_check_misses_each(furnished: Layout, lack: Lack, figure: Figure) -> None:
    """It really tries what the worker needs, so that there is none that it can do without."""
    user = furnished.give("worker", NODE)
    daemon = furnished.worker(user, "qemu+unix:///system?socket=/none")
    take(furnished, user, lack)
    code, said = ask(daemon, "--check-config", CHECKED, figure)
    line = next((line for line in said.splitlines() if "transport_url: rabbit:" in line), "")
    assert code == 1 and "ACCESS_REFUSED" in line, said
    assert line.startswith("[vmhb_notifications]" if lack.faults else "[DEFAULT]")
    assert furnished.run("--user", user, "worker", NODE).returncode == 0
    _, said = ask(daemon, "--check-config", CHECKED, figure)
    assert "ACCESS_REFUSED" not in said, "the script puts it back"


@pytest.mark.parametrize("lack", OF_A_CONSUMER, ids=lambda lack: lack.what)
def test_a_consumers_check_misses_each(layout: Layout, lack: Lack, figure: Figure) -> None:
    """The same."""
    user = layout.give("consumer")
    consumer = layout.consumer(user)
    take(layout, user, lack)
    code, said = ask(consumer, "--check-config", CHECKED, figure)
    assert code == 1 and "ACCESS_REFUSED" in said, said


# -- the script --------------------------------------------------------------------------------------------------------


def test_the_script_is_idempotent_and_says_what_it_does(layout: Layout) -> None:
    """Once it does all, then nothing; what somebody changed is put back; --check only tells. No password is shown but
    one that it made up."""
    user = f"{layout.rpc[:60]}-worker"
    asked = ("--user", user, "worker", NODE)
    checked = layout.run(*asked, "--check")
    assert checked.returncode == 1 and "would run: rabbitmqctl add_vhost" in checked.stdout
    first = layout.run(*asked)
    assert first.returncode == 0, first.stderr
    done = [line.split()[1] for line in first.stdout.splitlines()]
    both = ["set_permissions", "set_topic_permissions"]
    assert done == ["add_vhost", "add_user", *both, *both]
    again = layout.run(*asked)
    assert again.stdout == f"{user} has exactly these rights already: nothing is changed\n"
    assert "SECRET" not in checked.stdout + first.stdout + again.stdout
    ctl = layout.site.broker.ctl
    ctl("set_permissions", "-p", layout.rpc, user, ".*", ".*", ".*")
    ctl("set_user_tags", user, "administrator")
    ctl("change_password", user, "another")
    ctl("set_permissions", "-p", layout.site.broker.vhost, user, ".*", ".*", ".*")
    put_back = layout.run(*asked)
    changed = [line.split()[1] for line in put_back.stdout.splitlines() if line.startswith("rabbitmqctl")]
    assert changed == ["change_password", "set_user_tags", "set_permissions"]
    assert f"has rights in the virtual host {layout.site.broker.vhost} as well" in put_back.stdout
    assert layout.run(*asked, "--check").returncode == 0


def test_a_password_that_it_makes_up(layout: Layout) -> None:
    """Is shown once, and works."""
    user = f"{layout.rpc[:60]}-made-up"
    where = ["--rabbitmqctl", str(BIN / "rabbitmqctl"), "-p", layout.rpc, "--user", user, "caller"]
    said = subprocess.check_output([str(SCRIPT), *where], env=layout.site.broker.environ, text=True)
    secret = said.splitlines()[-1].rpartition(" ")[2]
    with connected(layout.url(user).replace("SECRET", secret)) as connection:
        connection.connect()


# -- what is taken away ------------------------------------------------------------------------------------------------


def commands(page: Path) -> list[list[str]]:
    """The words of each command for RabbitMQ that a page has."""
    joined = page.read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(line)[1:] for line in re.findall(r"(?m)^    (rabbitmqctl .*)$", joined)]


def test_what_is_taken_away(layout: Layout, tmp_path: Path) -> None:
    """The commands of docs/uninstall.rst: queues, users and policies that were there are not there any more."""
    site, vhost = layout.site, layout.rpc
    policies = (ROOT / "etc/rabbitmq/vmhb-policies.json").read_text(encoding="utf-8")
    (tmp_path / "policies.json").write_text(policies.replace('"vhost": "/"', f'"vhost": "{vhost}"'))
    site.broker.ctl("import_definitions", str(tmp_path / "policies.json"))
    assert layout.run("worker", NODE).returncode == 0
    with connected(site.url) as connection:
        for queue in ("vmhb_instances.info", "vmhb_instances.error", FAULTS):
            connection.channel().queue_declare(queue, durable=True, auto_delete=False)
    for what, *words in commands(UNINSTALL):
        site.broker.ctl(what, *([] if what == "delete_user" else ["-p", vhost]), *words)
    assert layout.queues() == []
    assert f"vmhb-{NODE}" not in site.broker.ctl("list_users", "--no-table-headers")
    assert "vmhb-faults" not in site.broker.ctl("list_policies", "-p", vhost)
