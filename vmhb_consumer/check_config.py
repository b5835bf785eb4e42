"""What `--check-config` reaches for, of the faults half: the broker to publish to, the database, Nova, each backend.

Changes nothing anywhere, but for the exchange and the queues that the first notification would make as well.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from oslo_config import cfg

from vmhb_common.app.command_line import INNER_LIMIT, Check
from vmhb_common.messaging import broker, looks, publisher
from vmhb_consumer import database, nova_client
from vmhb_consumer.conf import consumer as options
from vmhb_consumer.library_errors import first_line
from vmhb_consumer.reporters import loader


def endpoints(conf: cfg.ConfigOpts, now: Callable[[], datetime]) -> list[Check]:
    """Whatever is there to be reached. Raises ValueError where an option is out of bounds."""
    settings = options.settings(conf)
    store = database.of(conf, settings.state_path)
    value, problem = broker.shown(conf, settings.transport_url)
    faults = publisher.queue_of(settings.topics[0])
    tried = [publisher.sending(settings.topics), looks.listening(publisher.EXCHANGE, faults, faults)]
    found = [
        Check(
            "[vmhb_notifications] topics",
            f"{', '.join(settings.topics)} of {value}",
            lambda: problem or broker.check(conf, settings.transport_url, tried, INNER_LIMIT),
        ),
        Check("[database] connection", store.shown, lambda: _database(store)),
    ]
    nova = nova_client.from_conf(conf)
    if nova is not None:
        found.append(Check("[nova]", str(conf.nova.auth_type or conf.nova.auth_section), nova.check))
    for name, reporter in loader.make(conf, settings.reporters, loader.installed(), now).items():
        found.append(Check(f"[{loader.PREFIX}{name}]", name, reporter.check))
    return found


def _database(store: database.Database) -> str | None:
    """Is it there, and are its tables for us? For SQLite: may the folder be written; the file is the consumer's own."""
    if store.path is not None:
        return _folder(store.path.parent)
    try:
        engine = sa.create_engine(store.url, connect_args=_hurry(store.url))
        with engine.connect() as connection:
            connection.execute(sa.select(1))
        engine.dispose()
    except sa.exc.NoSuchModuleError as error:
        return f"{error}: install that database's driver"
    except Exception as error:
        return f"{first_line(error)}: is it running, and are user, password and database right?"
    try:
        store.visit()
    except (database.Refused, database.Away) as error:
        return str(error)
    finally:
        store.close()
    return None


def _hurry(url: str) -> dict[str, int]:
    """The drivers' own patience is 10 s and more."""
    return {} if sa.engine.make_url(url).get_backend_name() == "sqlite" else {"connect_timeout": int(INNER_LIMIT)}


def _folder(folder: Path) -> str | None:
    try:
        probe = folder / ".vmhb-check"
        probe.touch()
        probe.unlink()
    except OSError as error:
        return f"{folder} can't be written ({error.strerror}): see to [DEFAULT] state_path"
    return None
