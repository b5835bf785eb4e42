"""What `--check-config` reaches for: libvirt, the brokers, the store. All at once, each bounded in time."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from oslo_config import cfg

from vmhb_worker import notifications, store
from vmhb_worker.conf.libvirt import DEFAULT_URI
from vmhb_worker.conf.problems import Problem
from vmhb_worker.no_eventlet import without_eventlet

with without_eventlet():
    import oslo_messaging

#: Seconds that everything together may take.
LIMIT = 5.0
#: What a check that can tell more than "no answer" is given.
INNER_LIMIT = 4.5


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to reach: the option that names it, its value, and a function that tells what is wrong, or None."""

    what: str
    value: str
    look: Callable[[], str | None]


def endpoints(conf: cfg.ConfigOpts) -> list[Check]:
    """Everything that the worker needs and does not bring along, whatever else is wrong with the configuration."""
    uri = conf.libvirt.connection_uri or DEFAULT_URI
    state_path = Path(conf.state_path)
    own_url, topics = conf.vmhb_notifications.transport_url, _topics(conf)
    brokers = [_broker(conf, "[DEFAULT] transport_url", None, () if own_url else topics)]
    if own_url:
        brokers.append(_broker(conf, "[vmhb_notifications] transport_url", own_url, topics))
    return [
        Check("[libvirt] connection_uri", uri, lambda: _libvirt(uri)),
        *brokers,
        Check("[DEFAULT] state_path", str(state_path), lambda: _store(state_path)),
    ]


def run(checks: Sequence[Check], limit: float = LIMIT) -> list[Problem]:
    """All of them at the same time; one that has not answered after `limit` seconds has failed. Order is kept."""
    answers: queue.SimpleQueue[tuple[int, str | None]] = queue.SimpleQueue()
    for number, check in enumerate(checks):
        # A daemon: what hangs in there ends with the process.
        threading.Thread(target=_answer, args=(number, check, answers), name=check.what, daemon=True).start()
    wrong: dict[int, str | None] = dict.fromkeys(range(len(checks)), f"no answer within {limit:g} s")
    deadline = time.monotonic() + limit
    for _ in checks:
        try:
            number, found = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        wrong[number] = found
    return [Problem(checks[number].what, checks[number].value, found) for number, found in wrong.items() if found]


def _answer(number: int, check: Check, answers: queue.SimpleQueue[tuple[int, str | None]]) -> None:
    try:
        found = check.look()
    except Exception as error:  # whatever goes wrong in there is an answer
        found = f"{type(error).__name__}: {error}"
    answers.put((number, found))


def _libvirt(uri: str) -> str | None:
    try:
        from vmhb_worker import hypervisor  # noqa: PLC0415 -- not everybody has libvirt, and this is where we say so
    except ImportError as error:
        return f"libvirt-python cannot be imported ({error}): install nova-vmhb[worker]"
    return hypervisor.check(uri, INNER_LIMIT)


def _broker(conf: cfg.ConfigOpts, what: str, url: str | None, topics: Sequence[str]) -> Check:
    try:
        value = shown(conf, url)
    except (ValueError, oslo_messaging.InvalidTransportURL):
        return Check(what, "not a transport URL", lambda: "say one such as rabbit://user:password@host:5672/vhost")
    return Check(what, value, lambda: notifications.check(conf, url, topics, INNER_LIMIT))


def _topics(conf: cfg.ConfigOpts) -> Sequence[str]:
    """None where the option makes no sense, which is said elsewhere."""
    try:
        return tuple(conf.vmhb_notifications.topics)
    except ValueError:
        return ()


def shown(conf: cfg.ConfigOpts, url: str | None) -> str:
    """A transport URL without its passwords. Raises what oslo.messaging raises for one that makes no sense."""
    parsed = oslo_messaging.TransportURL.parse(conf, url)
    hosts = ",".join(f"{host.hostname or ''}:{host.port or 'default'}" for host in parsed.hosts)
    return f"{parsed.transport}://{hosts}/{parsed.virtual_host or ''}"


def _store(state_path: Path) -> str | None:
    if not state_path.exists():
        return _parent(state_path)
    try:
        lock = store.Lock(state_path)
    except store.StoreError as error:
        return str(error)
    try:
        return _database(state_path / store.FILE)
    finally:
        lock.release()


def _parent(state_path: Path) -> str | None:
    """Could the folder be made? A check makes none."""
    nearest = next(folder for folder in state_path.absolute().parents if folder.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return None
    return f"does not exist, and cannot be made in {nearest}: make it, for the user that the worker runs as"


def _database(path: Path) -> str | None:
    """Only where there is one: a check makes none."""
    if not path.exists():
        return None
    try:
        store.Database(path).close()
    except store.StoreError as error:
        return str(error)
    except store.Corrupt as error:
        return f"{path.name} is broken ({error}); at its start the worker puts it aside and begins with an empty one"
    return None
