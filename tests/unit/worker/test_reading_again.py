"""SIGHUP: a configuration is taken whole or not at all, and one that makes no sense can be mended."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from oslo_config import cfg
from oslo_log import log

from vmhb_common.app import command_line
from vmhb_worker.cmd import worker


class Service:
    """One that runs with a file."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "vmhb-worker.conf"
        self._folder = folder
        self.conf = cfg.ConfigOpts()
        self._arguments = [f"--config-file={self._file}"]
        log.register_options(self.conf)
        command_line._register(self.conf, worker.PROGRAM)
        self.begin()

    def begin(self, line: str = "") -> None:
        """As it starts."""
        self.write(line)
        command_line.read(worker.PROGRAM, self._arguments, self.conf)

    def write(self, line: str = "", brake_count: int = 5) -> None:
        """line: of [DEFAULT]."""
        text = f"[DEFAULT]\nhost = cn1\nstate_path = {self._folder}\n{line}\n[verdict]\nbrake_count = {brake_count}\n"
        self._file.write_text(text)

    def hang_up(self) -> bool:
        """Is it taken?"""
        return command_line.read_again(worker.PROGRAM, self._arguments, self.conf)


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path)


@pytest.mark.parametrize(
    "line",
    ["debug = maybe", "use_journal = 7up", "rate_limit_interval = often", "log_rotate_interval = x", "hots = a\n["],
)
def test_what_makes_no_sense_is_not_taken_and_can_be_mended(
    service: Service, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever's option it is: argparse, which reads some of them, would end the process."""
    service.write(line, brake_count=9)
    assert not service.hang_up()
    assert service.conf.verdict.brake_count == 5
    assert "the configuration is not taken: all goes on as before" in caplog.messages
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    service.write(brake_count=9)
    assert service.hang_up()
    assert service.conf.verdict.brake_count == 9


def test_the_logs_own_configuration(service: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is read last, so all else is in force: that is what is said."""
    gone = tmp_path / "logging.conf"
    service.begin(f"log_config_append = {gone}")  # it was there then
    service.write(f"log_config_append = {gone}", brake_count=9)
    assert service.hang_up()
    assert service.conf.verdict.brake_count == 9
    assert any("the log's own configuration is not taken, all else is: " in line for line in caplog.messages)
