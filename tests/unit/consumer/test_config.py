"""The consumer's options, its sample, and `nova-vmhb-consumer --check-config` and `--status`."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg
from oslo_log import log

from tests.fakes import write_config
from vmhb_common.app import command_line
from vmhb_common.app.command_line import Check
from vmhb_common.conf import groups
from vmhb_common.model.silences import MAX_SILENCE
from vmhb_consumer import conf as options
from vmhb_consumer.cmd import consumer
from vmhb_consumer.conf import consumer as faults_of
from vmhb_consumer.conf import nova_notifications
from vmhb_consumer.nova_operations import PLANNED, Operation
from vmhb_consumer.reporters import loader
from vmhb_consumer.settings import FaultSettings, Half, NovaNotificationSettings, RecoverySettings

SAMPLE = Path(__file__).parent.parent.parent.parent / "etc/vmhb/nova-vmhb-consumer.conf.sample"


def read(folder: Path, text: str = "") -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    options.register(conf)
    conf(write_config(folder, text), default_config_files=[], default_config_dirs=[])
    return conf


def test_defaults(tmp_path: Path) -> None:
    """An empty file gives the defaults that tests use, so that they are true of production."""
    assert nova_notifications.settings(read(tmp_path)) == NovaNotificationSettings()


def test_defaults_of_the_faults_half(tmp_path: Path) -> None:
    """The same of it: of everything but the host's name."""
    conf = read(tmp_path, "[DEFAULT]\nhost = ctl\n")
    assert faults_of.settings(conf) == FaultSettings(host="ctl")
    assert faults_of.halves(conf) == {Half.INSTANCES, Half.FAULTS}


def test_values_of_the_faults_half_arrive(tmp_path: Path) -> None:
    """What is written is what its parts are handed; what stands twice counts once."""
    text = (
        "[DEFAULT]\nhost = ctl\nstate_path = /srv\n[consumer]\nhalves = faults\nreporters = log, log, other\n"
        "reminder_interval = 60\nworker_forget = 120\nkeep = 7200\n[recovery]\nmax_concurrent = 1\nrecovery_time = 2\n"
        "rate = 3\nrecoveries = 4\nrecovery_window = 5\naction_ttl = 6\n"
        "observe_only = true\n[vmhb_notifications]\ntopics = a, b\n"
        "transport_url = rabbit://mq/\n"
    )
    conf = read(tmp_path, text)
    assert faults_of.settings(conf) == FaultSettings(
        host="ctl",
        state_path=Path("/srv"),
        reporters=("log", "other"),
        reminder_interval=60.0,
        worker_forget=120.0,
        keep=7200.0,
        topics=("a", "b"),
        transport_url="rabbit://mq/",
        recovery=RecoverySettings(1, 2.0, 3, 4, 5.0, 6.0, True),
    )
    assert faults_of.halves(conf) == {Half.FAULTS}


def test_values_arrive(tmp_path: Path) -> None:
    """What is written is what the halves are handed; there may be several brokers."""
    text = (
        "[nova_notifications]\ntransport_url = rabbit://one/\ntransport_url = rabbit://two/\ntopic = t\npool = p\n"
        "exchange = novae\ndelivery_time = 5\nrescued_timeout = 3600\nshelve_timeout = 604800\n"
    )
    settings = nova_notifications.settings(read(tmp_path, text))
    assert settings.transport_urls == ("rabbit://one/", "rabbit://two/")
    assert (settings.exchange, settings.topic, settings.pool, settings.delivery_time) == ("novae", "t", "p", 5.0)
    assert settings.timeouts[Operation.RESCUED] == 3600.0
    assert settings.timeouts[Operation.SHELVE] == MAX_SILENCE, "a configuration of before: cut, and no error"
    assert settings.timeouts[Operation.PAUSE] == PLANNED[Operation.PAUSE].timeout


@pytest.mark.parametrize(
    "line",
    ["topic = two words", "pool = a,b", "exchange =", "delivery_time = 0", "pause_timeout = 0.5", "pause_timeout = x"],
)
def test_out_of_bounds_is_an_error(tmp_path: Path, line: str) -> None:
    """Nothing is clamped in silence."""
    with pytest.raises(ValueError):
        nova_notifications.settings(read(tmp_path, f"[nova_notifications]\n{line}\n"))


def test_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A good configuration is told so."""
    arguments = [
        *write_config(tmp_path, "[nova_notifications]\npool = vmhb\n[consumer]\nreporters = log\n"),
        "--check-config",
    ]
    assert consumer.run(arguments, cfg.ConfigOpts(), lambda _conf: []) == 0
    assert capsys.readouterr().out == "configuration is good\n"


def test_all_that_is_wrong_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown names, bad values and what cannot be reached, each with its remedy."""
    text = "[nova_notifications]\ntopics = x\npause_timeout = 0\n[nova_notification]\nx = 1\n[policy]\nx = 1\n"
    arguments = [*write_config(tmp_path, text), "--check-config"]
    away = Check("[DEFAULT] transport_url", "rabbit://mq:default/", lambda: "no")
    assert consumer.run(arguments, cfg.ConfigOpts(), lambda _conf: [away]) == 1
    file = arguments[1]
    assert sorted(capsys.readouterr().err.splitlines()) == [
        "[DEFAULT] transport_url: rabbit://mq:default/: no",
        f"[nova_notification]: unknown group in {file}: did you mean [nova_notifications]?",
        "[nova_notifications] pause_timeout: 0: say seconds, 1 to 604800",
        f"[nova_notifications] topics: unknown option in {file}: did you mean topic?",
    ]


def test_a_crash_point_is_said_at_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever has inherited one with an environment reads it at the top of the log."""
    monkeypatch.setenv("VMHB_CRASH_AT", "commit.after")
    monkeypatch.setattr(log, "setup", lambda *_: None)
    program = replace(consumer.complete(), serve=lambda _conf, _reading: 0)
    assert command_line.run(program, write_config(tmp_path, "[consumer]\nreporters = log\n"), cfg.ConfigOpts()) == 0
    assert "VMHB_CRASH_AT is set to 'commit.after'" in caplog.records[0].getMessage()


def test_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What one that runs says, as JSON; or one sentence, and exit code 1."""
    arguments = [*write_config(tmp_path, "[consumer]\nreporters = log\n"), "--status"]

    def nobody(_conf: cfg.ConfigOpts) -> dict[str, Any]:
        raise command_line.NoAnswer("no consumer answers")

    answers = replace(consumer.complete(), status=lambda _conf: {"counts": {"given_up.masakari": 1}})
    assert command_line.run(answers, arguments, cfg.ConfigOpts()) == 0
    assert json.loads(capsys.readouterr().out) == {"counts": {"given_up.masakari": 1}}
    assert command_line.run(replace(answers, status=nobody), arguments, cfg.ConfigOpts()) == 1
    assert capsys.readouterr() == ("", "no consumer answers\n")


def test_status_without_a_broker(tmp_path: Path) -> None:
    """Said within seconds, with the address that was tried."""
    conf = read(tmp_path, "[DEFAULT]\ntransport_url = rabbit://u:s3cret@127.0.0.1:1/\n")
    with pytest.raises(command_line.NoAnswer, match=r"no consumer can be asked: .*127\.0\.0\.1:1") as found:
        consumer.status(conf)
    assert "s3cret" not in str(found.value)


def checked(folder: Path, text: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What --check-config says, reaching for nothing."""
    arguments = [*write_config(folder, text), "--check-config"]
    code = consumer.run(arguments, cfg.ConfigOpts(), lambda _conf: [])
    said = capsys.readouterr().err.splitlines()
    assert code == (1 if said else 0)
    return sorted(line.replace(arguments[1], "FILE") for line in said)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[consumer]\nhalves =\n", ["[consumer] halves: empty: name at least one, or leave it out for both"]),
        (
            "[consumer]\nreporters = log, lgo\n",
            ["[consumer] reporters: lgo: is not installed: there are "],
        ),
        (
            "[consumer]\nreporters = log\n[reporter_log]\nurl = x\n[recovery]\nrates = 7\n[nova]\nuser = x\n",
            [
                "[nova] auth_type: missing: say auth_type = password, or remove [nova]",
                "[nova] user: unknown option in FILE: ",
                "[recovery] rates: unknown option in FILE: did you mean rate?",
                "[reporter_log] url: unknown option in FILE: remove it",
            ],
        ),
        (
            "[consumer]\nreporters = log\n[reporter_logg]\n",
            ["[reporter_logg]: unknown group"],
        ),
        ("[consumer]\nreporters = log\n[nova]\nauth_type = nonsense\n", ["[nova]: nonsense: [nova] makes no sense"]),
        (
            "[consumer]\nreporters = log\n[nova]\nauth_url = http://k/v3\npassword = s3cret\n",
            ["[nova] auth_type: missing: say auth_type = password, or remove [nova]"],
        ),
        ("[consumer]\nhalves = instances\n[nova]\nauth_url = http://k/v3\n", []),  # asks nobody
        ("[consumer]\nreporters = log\n[nova]\n", []),
        ("[consumer]\nreporters = log\n[database]\nconnection = x\n", ["[database] connection: a secret: say a URL"]),
        ("[consumer]\nreporters = log\n[recovery]\nrate = 0\n", ["[recovery] rate: 0: "]),
        ("[consumer]\nreporters = log\n[recovery]\nmax_concurrent = 0\n", []),
        ("[consumer]\nreporters = log\n[recovery]\nmax_concurrent = -1\n", ["[recovery] max_concurrent: -1: "]),
        ("[consumer]\nhalves = instances\nreporters = lgo\n", []),
        ("[consumer]\nreporters = log\n[nova]\nauth_type = password\nauth_url = u\nusername = u\n", []),
        ("[consumer]\nreporters =\n", []),
        ("[consumer]\nreporters = log\nkeep = 31622400\n", []),
        (
            "[consumer]\nreporters = log\nkeep = 31622401\n",
            ["[consumer] keep: 31622401: say seconds, 3600 to 31622400"],
        ),
    ],
)
def test_what_is_wrong_with_the_faults_half(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: list[str]
) -> None:
    """Unknown options of all reporters that are installed, used or not; reporters that there are not; nonsense."""
    said = checked(tmp_path, text, capsys)
    assert len(said) == len(says), said
    assert all(line.startswith(start) for line, start in zip(said, says, strict=True)), said


def test_what_the_faults_half_reaches_for(tmp_path: Path) -> None:
    """Where it publishes, the database without its password, Nova where there is one, and each reporter's backend."""
    text = (
        "[DEFAULT]\ntransport_url = rabbit://mq/\n[consumer]\nhalves = faults\nreporters = log\n"
        "[nova]\nauth_type = none\nendpoint_override = http://127.0.0.1:1/\n[database]\nconnection = mysql+pymysql://u:s3cret@127.0.0.1:1/vmhb\n"
    )
    conf = cfg.ConfigOpts()
    for groups_of in (options.GROUPS, options.libraries(), loader.groups(loader.installed())):
        groups.register(conf, groups_of)
    conf(write_config(tmp_path, text), default_config_files=[], default_config_dirs=[])
    checks = consumer.endpoints(conf)
    assert [(check.what, check.value) for check in checks] == [
        ("[DEFAULT] transport_url", "rabbit://mq:default/"),
        ("[vmhb_notifications] topics", "vmhb_notifications of rabbit://mq:default/"),
        ("[database] connection", "mysql+pymysql://u:***@127.0.0.1:1/vmhb"),
        ("[nova]", "none"),
        ("[reporter_log]", "log"),
    ]
    problems = [problem.what for problem in command_line.reach(checks[2:])]
    assert problems == ["[database] connection", "[nova]"]


def test_the_folder_of_sqlite(tmp_path: Path) -> None:
    """It must be there, and be writable; the database itself may be a running consumer's, and is not touched."""
    text = f"[DEFAULT]\nstate_path = {tmp_path}\n[consumer]\nhalves = faults\nreporters = log\n"
    conf = cfg.ConfigOpts()
    for groups_of in (options.GROUPS, options.libraries(), loader.groups(loader.installed())):
        groups.register(conf, groups_of)
    conf(write_config(tmp_path, text), default_config_files=[], default_config_dirs=[])
    (check,) = (one for one in consumer.endpoints(conf) if one.what == "[database] connection")
    assert check.look() is None
    assert list(tmp_path.iterdir()) == [tmp_path / "vmhb-worker.conf"]
    conf.set_override("state_path", str(tmp_path / "absent"))
    (check,) = (one for one in consumer.endpoints(conf) if one.what == "[database] connection")
    assert "see to [DEFAULT] state_path" in str(check.look())


def test_what_is_reached_for(tmp_path: Path) -> None:
    """The workers' broker, and each of Nova's; passwords are not shown, and nonsense is a problem of its own."""
    conf = read(
        tmp_path,
        "[DEFAULT]\ntransport_url = rabbit://u:s3cret@mq1/v\n[nova_notifications]\n"
        "transport_url = rabbit://u:s3cret@cell1:5671/\ntransport_url = nonsense\n[consumer]\nhalves = instances\n",
    )
    checks = consumer.endpoints(conf)
    assert [(check.what, check.value) for check in checks] == [
        ("[DEFAULT] transport_url", "rabbit://mq1:default/v"),
        ("[nova_notifications] transport_url", "rabbit://cell1:5671/"),
        ("[nova_notifications] transport_url", "not a transport URL"),
    ]
    (problem,) = command_line.reach(checks[2:])
    assert "say one such as" in problem.remedy


def test_by_default_there_is_one_broker(tmp_path: Path) -> None:
    """It is looked at twice: can workers be reached through it, and does Nova use it?"""
    text = "[DEFAULT]\ntransport_url = rabbit://mq/\n[consumer]\nhalves = instances\n"
    values = [check.value for check in consumer.endpoints(read(tmp_path, text))]
    assert values == ["rabbit://mq:default/"] * 2


def test_the_program_imports_neither_eventlet_nor_nova_nor_libvirt() -> None:
    """The consumer runs where none of them is."""
    code = (
        "import sys, vmhb_consumer.cmd.consumer, vmhb_consumer.service, vmhb_consumer.faults_half\n"
        "found = {name.split('.')[0] for name in sys.modules} & {'eventlet', 'nova', 'libvirt', 'lxml'}\n"
        "sys.exit(str(found) if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=SAMPLE.parent.parent.parent, check=False)
    assert done.returncode == 0
