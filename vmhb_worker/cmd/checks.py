"""What the worker's `--check-config` reaches for: libvirt, the brokers, the store."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from oslo_config import cfg

from vmhb_common import worker_api
from vmhb_common.app.command_line import INNER_LIMIT, Check
from vmhb_common.messaging import broker, looks, publisher
from vmhb_worker.conf.libvirt import DEFAULT_URI
from vmhb_worker.delivery import sqlite


def endpoints(conf: cfg.ConfigOpts) -> list[Check]:
    """Everything that the worker needs and does not bring along, whatever else is wrong with the configuration."""
    uri = conf.libvirt.connection_uri or DEFAULT_URI
    state_path = Path(conf.state_path)
    own_url, topics = conf.vmhb_notifications.transport_url, _topics(conf)
    sent = publisher.sending(topics, declare=not _own_queue_only(conf))
    served = _served(conf)
    found = [_broker(conf, "[DEFAULT] transport_url", None, served if own_url else [sent, *served])]
    if own_url:
        found.append(_broker(conf, "[vmhb_notifications] transport_url", own_url, [sent]))
    return [
        Check("[libvirt] connection_uri", uri, lambda: _libvirt(uri)),
        *found,
        Check("[DEFAULT] state_path", str(state_path), lambda: _store(state_path)),
    ]


def _libvirt(uri: str) -> str | None:
    try:
        from vmhb_worker.adapters import libvirt as hypervisor  # noqa: PLC0415 -- not everybody has libvirt, and this is where we say so
    except ImportError as error:
        return f"libvirt-python cannot be imported ({error}): install nova-vmhb[worker]"
    return hypervisor.check(uri, INNER_LIMIT)


def _broker(conf: cfg.ConfigOpts, what: str, url: str | None, tried: Sequence[looks.Look]) -> Check:
    value, problem = broker.shown(conf, url)
    return Check(what, value, lambda: problem or broker.check(conf, url, tried, INNER_LIMIT))


def _served(conf: cfg.ConfigOpts) -> list[looks.Look]:
    """A worker calls nobody, so it needs no queue for replies: its user may be one who may make none."""
    try:
        return [looks.serving(worker_api.EXCHANGE, worker_api.TOPIC, conf.host, _own_queue_only(conf))]
    except ValueError:  # said elsewhere
        return []


def _own_queue_only(conf: cfg.ConfigOpts) -> bool:
    try:
        return bool(conf.own_queue_only)
    except ValueError:  # said elsewhere
        return False


def _topics(conf: cfg.ConfigOpts) -> Sequence[str]:
    """None where the option makes no sense, which is said elsewhere."""
    try:
        return tuple(conf.vmhb_notifications.topics)
    except ValueError:
        return ()


def _store(state_path: Path) -> str | None:
    if not state_path.exists():
        return _parent(state_path)
    try:
        lock = sqlite.Lock(state_path)
    except sqlite.StoreInUseError:
        return None  # by the worker that runs with it: it is good enough for that one
    except sqlite.StoreError as error:
        return str(error)
    try:
        return _database(state_path / sqlite.FILE)
    finally:
        lock.release()


def _parent(state_path: Path) -> str | None:
    """Could the folder be made? Tried beside it, and gone again: to root, permissions alone promise everything."""
    nearest = next(folder for folder in state_path.absolute().parents if folder.exists())
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".vmhb-check-", dir=nearest))
    except OSError as error:
        return (
            f"does not exist, and cannot be made in {nearest} ({error.strerror}): make it, for the user that the "
            f"worker runs as"
        )
    return None


def _database(path: Path) -> str | None:
    """Only where there is one: a check makes none."""
    if not path.exists():
        return None
    try:
        sqlite.Database(path).close()
    except sqlite.StoreError as error:
        return str(error)
    except sqlite.Corrupt as error:
        return f"{path.name} is broken ({error}); at its start the worker puts it aside and begins with an empty one"
    return None
