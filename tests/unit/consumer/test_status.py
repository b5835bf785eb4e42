"""`nova-vmhb-status upgrade check`: may the consumers of this version be started?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from oslo_config import cfg

from tests.stage.tables import execute, lay, steps_with
from vmhb_consumer.cmd import status
from vmhb_consumer.database import Database

FILE = "nova-vmhb-consumer.sqlite"
Check = Callable[..., tuple[int, dict[str, tuple[int, str]]]]


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """Run it, with this in the configuration: exit code, and of each check its result and what it says."""

    def run(more: str = "") -> tuple[int, dict[str, tuple[int, str]]]:
        config = tmp_path / "consumer.conf"
        config.write_text(f"[DEFAULT]\nstate_path = {tmp_path}\n[consumer]\nreporters = log\n{more}")
        code = status.run([f"--config-file={config}", "upgrade", "check", "--json"], cfg.ConfigOpts())
        told = json.loads(capsys.readouterr().out)
        return code, {one["check"]: (one["result"], one["details"]) for one in told["checks"]}

    return run


def test_of_an_installation(check: Check, tmp_path: Path) -> None:
    """Nothing there yet, a database from before, and one that is ours: go on."""
    url = f"sqlite:///{tmp_path / FILE}"
    code, told = check()
    assert code == 0 and told["Database"] == (0, "There is none yet: the consumer makes it when it starts first")
    assert not (tmp_path / FILE).exists()
    lay(url, "2")
    code, told = check()
    assert code == 0
    assert "version 2, from before there were revisions: the consumer brings it to 0003" in told["Database"][1]
    database = Database(url)
    database.open()
    assert check() == (
        0,
        {"Configuration": (0, None), "Database": (0, "It has tables of revision 0003"), "Workers' RPC": (0, None)},
    )
    database.close()


def test_of_newer_tables(check: Check, tmp_path: Path) -> None:
    """By additions: go on, but see. By more, or not what they say they are: don't."""
    url = f"sqlite:///{tmp_path / FILE}"
    newer = Database(url, steps=steps_with(tmp_path, r0004='fill_in("more", "1")'))
    newer.open()
    newer.close()
    code, told = check()
    assert code == 1 and told["Database"][1].startswith("It has tables of revision 0004, newer than this version's")
    execute(url, "DROP TABLE vmhb_pauses")
    code, told = check()
    assert code == 2 and "lacks the table vmhb_pauses" in told["Database"][1]
    execute(url, "UPDATE vmhb_meta SET value = '9' WHERE name = 'schema_version'")
    code, told = check()
    assert code == 2 and "upgrade nova-vmhb here" in told["Database"][1]


def test_of_a_server(check: Check) -> None:
    """One that can't be reached is not one to start with; none is needed without the faults half."""
    code, told = check("[database]\nconnection = mysql+pymysql://u:s3cret@127.0.0.1:1/vmhb\n")
    assert code == told["Database"][0] == 2 and "s3cret" not in told["Database"][1]
    code, told = check("halves = instances\n[database]\nconnection = mysql+pymysql://u:s3cret@127.0.0.1:1/vmhb\n")
    assert code == 0
    code, told = check("[database]\nconnection = x\n")
    assert code == told["Database"][0] == 2 and "say a URL such as" in told["Database"][1]


def test_of_the_configuration(check: Check) -> None:
    """What is wrong with it stops; what nobody knows, and a pin that was forgotten, is to be seen."""
    code, told = check("kep = 1\n[upgrade_levels]\nvmhb_worker = 1.0\n")
    assert code == 1
    assert "did you mean keep?" in told["Configuration"][1]
    assert told["Workers' RPC"][1].startswith("[upgrade_levels] vmhb_worker is 1.0, and ")
    code, told = check("keep = 1\n")
    assert code == told["Configuration"][0] == 2 and "keep: 1: " in told["Configuration"][1]


def test_what_is_typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """255, as of other services: it was not checked."""
    assert status.run([f"--config-file={tmp_path / 'none'}", "upgrade", "check"], cfg.ConfigOpts()) == 255
    assert "none" in capsys.readouterr().err
    assert status.run(["upgrade"], cfg.ConfigOpts()) == 255
