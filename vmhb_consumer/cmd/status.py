"""`nova-vmhb-status upgrade check`: may the consumers of this version be started? Changes nothing.

It is run when a new version was installed, before its services are started, with the consumer's own configuration. Exit
codes, as of other services' checks: 0 yes; 1 yes, but see what it says; 2 no; 255 it could not be checked.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oslo_config import cfg
from oslo_upgradecheck import upgradecheck
from oslo_upgradecheck.upgradecheck import Code, Result

from vmhb_common import worker_api
from vmhb_common.app import command_line
from vmhb_common.conf import groups
from vmhb_common.messaging.no_eventlet import without_eventlet
from vmhb_consumer import standing
from vmhb_consumer.cmd import consumer
from vmhb_consumer.settings import Half
from vmhb_consumer.standing import Standing

with without_eventlet():
    from oslo_log import log

UNCHECKED = 255
_FOLDER = "/etc/vmhb/nova-vmhb-consumer"


def main() -> None:
    """The entry point."""
    sys.exit(run(sys.argv[1:], cfg.CONF))


def run(arguments: Sequence[str], conf: cfg.ConfigOpts) -> int:
    """Exit code, as above."""
    log.register_options(conf)
    groups.register(conf, consumer.complete().groups)
    logging.disable(logging.CRITICAL)  # libraries' complaints would only repeat ours
    try:
        checks = Checks(conf)
        code: int = upgradecheck.main(conf, "vmhb", checks, [*_files(arguments), *arguments], default_config_files=[])
        return code
    except SystemExit as end:  # after --help, or what is wrong was said
        return UNCHECKED if end.code else 0
    except (cfg.Error, ValueError) as error:
        print(f"nova-vmhb-status: {error}", file=sys.stderr)
        return UNCHECKED
    finally:
        logging.disable(logging.NOTSET)


def _files(arguments: Sequence[str]) -> list[str]:
    """The consumer's own, where no others are named."""
    own = {"--config-file": f"{_FOLDER}.conf", "--config-dir": f"{_FOLDER}.conf.d"}
    named = {argument.partition("=")[0] for argument in arguments}
    return [f"{option}={path}" for option, path in own.items() if option not in named and os.path.exists(path)]


class Checks(upgradecheck.UpgradeCommands):
    """What is looked at."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf

    def _configuration(self) -> Result:
        """As --check-config, without anything that is reached for."""
        program, conf = consumer.complete(), self._conf
        bad = command_line.nonsense(program, conf)
        if bad:
            return Result(Code.FAILURE, "; ".join(map(str, bad)))
        unknown = command_line.unknown(program, conf)
        return Result(Code.WARNING, "; ".join(map(str, unknown))) if unknown else Result(Code.SUCCESS)

    def _database(self) -> Result:
        """Its tables are those that this version needs, or will be."""
        try:
            if Half.FAULTS not in self._conf.consumer.halves:
                return Result(Code.SUCCESS, "None is used: [consumer] halves")
            database = importlib.import_module("vmhb_consumer.database")
            store = database.of(self._conf, Path(self._conf.state_path))
        except (ValueError, ImportError) as error:
            return Result(Code.FAILURE, f"[database] connection: {error}")
        try:
            return _of_tables(store)
        except (database.Refused, database.Away) as error:
            return Result(Code.FAILURE, str(error))
        finally:
            store.close()

    def _rpc(self) -> Result:
        """Nobody is kept from what all workers speak by now."""
        cap = self._conf.upgrade_levels.vmhb_worker
        if not cap or cap == worker_api.VERSION:
            return Result(Code.SUCCESS)
        return Result(
            Code.WARNING,
            f"[upgrade_levels] vmhb_worker is {cap}, and {worker_api.VERSION} is spoken: take it out once all workers "
            f"are upgraded",
        )

    _upgrade_checks = (("Configuration", _configuration), ("Database", _database), ("Workers' RPC", _rpc))


def _of_tables(store: Any) -> Result:
    """Raises Refused, Away."""
    if store.path is not None and not store.path.exists():
        return Result(Code.SUCCESS, "There is none yet: the consumer makes it when it starts first")
    found = store.found()
    where = standing.judge(found, store.known)
    if store.alone and where in (Standing.EMPTY, Standing.BEHIND):
        return Result(Code.SUCCESS, f"It has {found.text}: the consumer brings it to {store.known.head} when it starts")
    store.visit()
    if where is Standing.AHEAD:
        return Result(Code.WARNING, f"It has {found.text}, newer than this version's, which can do with it")
    return Result(Code.SUCCESS, f"It has {found.text}")


if __name__ == "__main__":
    main()
