"""etc/rabbitmq/vmhb-rights, as far as it asks RabbitMQ nothing: the rights that it gives, and nobody else."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from vmhb_common import consumer_api, worker_api
from vmhb_common.messaging import publisher
from vmhb_consumer.cmd.consumer import PRIORITIES

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "etc/rabbitmq/vmhb-rights"
ROLE = ROOT / "deploy/ansible_collections/nova_vmhb/deploy/roles/vmhb_broker"
TWO = ("-p", "rpc", "--faults-vhost", "faults")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(SCRIPT), *words], capture_output=True, text=True, check=False)


def rights(*words: str) -> tuple[dict[str, Any], dict[tuple[str, str], Any]]:
    """Those of a user: by virtual host; and by virtual host and exchange."""
    done = run("--json", *words)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    keys = {(row["vhost"], row["exchange"]): row for row in said["topic_permissions"]}
    return {row["vhost"]: row for row in said["permissions"]}, keys


def may(pattern: str, *names: str) -> list[str]:
    """Those of the names that it permits."""
    return [name for name in names if re.search(pattern, name)]


NAMES = (
    *("vmhb", "amq.default", "nova", "reply_0", "vmhb_worker_fanout", "vmhb_worker_fanout_0", "vmhb_worker"),
    *("vmhb_worker.c-1", "vmhb_worker.c-11", "vmhb_worker.c-2", "vmhb_worker.cx1", "vmhb_consumer", "vmhb_consumer.h"),
    *("vmhb_notifications.info", "vmhb_notificationsXinfo", "vmhb_instances.info", "versioned_notifications.info", ""),
)


def test_a_worker() -> None:
    """Its own queue, and answers; and one key for faults. Nothing whose name only begins or looks like that."""
    hosts, keys = rights(*TWO, "worker", "c-1")
    rpc, faults = hosts["rpc"], hosts["faults"]
    assert may(rpc["configure_priv"], *NAMES) == ["vmhb_worker.c-1"]
    assert may(rpc["write_priv"], *NAMES) == ["amq.default", "vmhb_worker.c-1"]
    assert may(rpc["read_priv"], *NAMES) == ["vmhb", "vmhb_worker.c-1"]
    assert may(keys["rpc", "vmhb"]["read_priv"], *NAMES, "#", "vmhb_worker.*") == ["vmhb_worker.c-1"]
    assert may(keys["rpc", "vmhb"]["write_priv"], *NAMES[:-1]) == []
    assert may(faults["configure_priv"], *NAMES[:-1]) == may(faults["read_priv"], *NAMES[:-1]) == []
    assert may(faults["write_priv"], *NAMES) == ["vmhb"]
    assert may(keys["faults", "vmhb"]["write_priv"], *NAMES) == ["vmhb_notifications.info"]


@pytest.mark.parametrize("kind", [("worker", "c.1"), ("workers",), ("consumer",), ("caller",), ("vitrage",)])
def test_both_in_one_are_both_together(kind: tuple[str, ...]) -> None:
    """One virtual host: what is permitted in either of two."""
    two, _ = rights(*TWO, *kind)
    one, _ = rights("-p", "one", *kind)
    for what in ("configure_priv", "write_priv", "read_priv"):
        either = [name for name in NAMES[:-1] if any(may(row[what], name) for row in two.values())]
        assert may(one["one"][what], *NAMES[:-1]) == either


def test_who_hears_nova() -> None:
    """The queues of our topic, or a pool's; by the keys of what is heard."""
    hosts, keys = rights("-p", "nova", "hears-nova")
    assert may(hosts["nova"]["read_priv"], *NAMES) == ["nova", "vmhb_instances.info"]
    heard = [f"vmhb_instances.{priority}" for priority in PRIORITIES]
    assert may(keys["nova", "nova"]["read_priv"], *heard, "vmhb_instances.debug", "#") == heard
    pool, keys = rights("-p", "nova", "--nova-topic", "versioned_notifications", "--nova-pool", "p", "hears-nova")
    assert may(pool["nova"]["configure_priv"], *NAMES, "p", "px") == ["nova", "p"]
    assert may(keys["nova", "nova"]["read_priv"], *NAMES) == ["versioned_notifications.info"]


def test_the_names_are_those_of_the_code() -> None:
    """Of exchanges and topics."""
    text = SCRIPT.read_text(encoding="utf-8")
    assert worker_api.EXCHANGE == consumer_api.EXCHANGE == publisher.EXCHANGE == "vmhb"
    assert rf"{worker_api.TOPIC}\." in text and f'"{consumer_api.TOPIC}"' in text
    assert publisher.queue_of("t") == "t.info"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("worker",), "a worker, and nobody else, has a host"),
        (("consumer", "c-1"), "a worker, and nobody else, has a host"),
        (("worker", "a#b"), "one word without"),
        (("worker", "caller"), "say --user"),
        (("--topics", ",", "consumer"), "--topics names none"),
        (("--certificate", "--password-file", "-", "consumer"), "either a certificate, or a password"),
        (("nobody",), "invalid choice"),
    ],
)
def test_what_makes_no_sense(words: tuple[str, ...], said: str) -> None:
    """Is refused before anything is asked of RabbitMQ, and said with what to do."""
    done = run("--rabbitmqctl", "/nonexistent", *words)
    assert done.returncode == 2 and said in done.stderr


def test_where_rabbitmq_is_not(tmp_path: Path) -> None:
    """One line, and no traceback; the same of a file that is not there, or empty."""
    done = run("--rabbitmqctl", "/nonexistent", "consumer")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1) and "run this where RabbitMQ is" in done.stderr
    (tmp_path / "empty").write_text("\n")
    for file, why in ((tmp_path / "none", "No such file"), (tmp_path / "empty", "nothing in it")):
        done = run("--password-file", str(file), "consumer")
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1) and why in done.stderr


def test_its_help() -> None:
    """Names each kind of user, and what it is for."""
    said = run("--help").stdout
    for kind in ("worker", "workers", "consumer", "hears-nova", "caller", "vitrage"):
        assert re.search(rf"(?m)^  {kind} +\w", said)


def test_ansibles_role_gives_the_same() -> None:
    """It asks this very script, and has no rights of its own."""
    assert (ROLE / "files/vmhb-rights").resolve() == SCRIPT
    text = "".join(path.read_text(encoding="utf-8") for path in ROLE.rglob("*.yml"))
    assert "vmhb_broker_granted.permissions" in text and "_priv:" not in text
    assert not re.findall(r"\^\(|reply_|amq\\", text)
