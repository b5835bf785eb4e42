"""`vmhb-worker --check-config`: everything that is wrong, one line each, in bounded time; and a start's own part."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from oslo_config import cfg

from tests.fakes import hangs, raises, write_config
from vmhb_common.app import command_line as program
from vmhb_common.app.command_line import Check
from vmhb_worker import conf as options
from vmhb_worker.cmd import checks, worker
from vmhb_worker.delivery import sqlite as store


def run(folder: Path, text: str, *reached: Check) -> int:
    """Check a configuration of this text, where only this is reached for."""
    arguments = [*write_config(folder, text), "--check-config"]
    return worker.run(arguments, cfg.ConfigOpts(), lambda _conf: reached)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A good configuration is told so, and the exit code is 0."""
    good = Check("[libvirt] connection_uri", "qemu:///system", lambda: None)
    assert run(tmp_path, "[policy]\ninterval = 5\n", good) == 0
    assert capsys.readouterr().out == "configuration is good\n"


def test_all_that_is_wrong_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not the first problem only: unknown names, bad values and what cannot be reached, each with its remedy."""
    text = (
        "[policy]\nintervall = 5\ntimeout = 0\nwhatever = 1\n[polcy]\ninterval = 5\n"
        "[DEFAULT]\nhots = x\n[agent]\nworkers = many\n"
    )
    assert run(tmp_path, text, Check("[DEFAULT] state_path", "/nowhere", lambda: "make it")) == 1
    file = tmp_path / "vmhb-worker.conf"
    assert sorted(lines(capsys)) == [
        f"[DEFAULT] hots: unknown option in {file}: did you mean host?",
        "[DEFAULT] state_path: /nowhere: make it",
        "[agent] workers: many: invalid literal for int() with base 10: 'many'",
        f"[polcy]: unknown group in {file}: did you mean [policy]?",
        f"[policy] intervall: unknown option in {file}: did you mean interval?",
        "[policy] timeout: 0: say seconds, 0.1 to 300",
        f"[policy] whatever: unknown option in {file}: remove it; the sample configuration has all there are",
    ]


def test_others_names_are_left_alone(tmp_path: Path) -> None:
    """Options of the libraries, old names of theirs, and groups of other services are no mistakes."""
    text = (
        "[DEFAULT]\ndebug = true\ntransport_url = rabbit://\nrpc_response_timeout = 10\nrpc_thread_pool_size = 3\n"
        "[oslo_messaging_rabbit]\nrabbit_quorum_queue = true\n[Policy]\ninterval = 5\n"
        "[nova]\nregion_name = one\n[database]\nconnection = sqlite://\n[upgrade_levels]\nvmhb_worker = 1.0\n"
    )
    assert run(tmp_path, text) == 0


def test_contradicting_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Values that are each within bounds, and cannot both be meant, are told."""
    assert run(tmp_path, "[policy]\nmin_interval = 30\ninterval = 10\n") == 1
    assert lines(capsys) == ["[policy]: interval is below min_interval (30): change one of them"]


def test_no_topics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a topic, faults would be told to nobody."""
    assert run(tmp_path, "[vmhb_notifications]\ntopics =\n") == 1
    assert lines(capsys)[0].startswith("[vmhb_notifications] topics: empty: ")


@pytest.mark.parametrize(
    ("text", "says"),
    [("nonsense\n", "nonsense"), ("[policy\n", "[policy")],
)
def test_not_a_configuration_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str) -> None:
    """A file that cannot be parsed is one line, and no traceback."""
    assert run(tmp_path, text) == 1
    assert says in capsys.readouterr().err


def test_no_such_file(capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there is named."""
    assert worker.run(["--config-file", "/nowhere/vmhb.conf"], cfg.ConfigOpts()) == 1
    assert "/nowhere/vmhb.conf" in capsys.readouterr().err


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    """A broker is shown without its password."""
    conf = cfg.ConfigOpts()
    options.register(conf)
    text = (
        "[DEFAULT]\ntransport_url = rabbit://nova:s3cret@mq1:5671,nova:s3cret@mq2/vhost\n"
        "[vmhb_notifications]\ntransport_url = rabbit://vmhb:s3cret@mq3/\n"
    )
    conf(write_config(tmp_path, text), default_config_files=[], default_config_dirs=[])
    shown = [(check.what, check.value) for check in checks.endpoints(conf)]
    assert shown == [
        ("[libvirt] connection_uri", "qemu:///system"),
        ("[DEFAULT] transport_url", "rabbit://mq1:5671,mq2:default/vhost"),
        ("[vmhb_notifications] transport_url", "rabbit://mq3:default/"),
        ("[DEFAULT] state_path", "/var/lib/vmhb"),
    ]


@pytest.mark.parametrize("url", ["nonsense", "rabbit://host:port/", "rabbbit://mq/"])
def test_a_bad_transport_url_is_a_problem_of_its_own(tmp_path: Path, url: str) -> None:
    """A URL that makes no sense is told like a broker that cannot be reached."""
    conf = cfg.ConfigOpts()
    options.register(conf)
    file = write_config(tmp_path, f"[DEFAULT]\ntransport_url = {url}\n")
    conf(file, default_config_files=[], default_config_dirs=[])
    broker = checks.endpoints(conf)[1]
    assert [problem.what for problem in program.reach([broker])] == ["[DEFAULT] transport_url"]


def test_what_hangs_is_waited_for_once() -> None:
    """However many endpoints hang, the check ends in time, and what the others said is told in order."""
    asked: Sequence[Check] = [
        Check("one", "1", hangs),
        Check("two", "2", lambda: None),
        Check("three", "3", raises(RuntimeError("oops"))),
        Check("four", "4", hangs),
    ]
    began = time.monotonic()
    found = program.reach(asked, limit=0.2)
    assert time.monotonic() - began < 2.0
    assert [str(problem) for problem in found] == [
        "one: 1: no answer within 0.2 s",
        "three: 3: RuntimeError: oops",
        "four: 4: no answer within 0.2 s",
    ]


def test_a_status_ends(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever it waits for: one line, exit code 1."""
    began = time.monotonic()
    assert program._tell(lambda _conf: {"": hangs()}, cfg.ConfigOpts(), 0.2) == 1
    assert time.monotonic() - began < 2.0
    said = "none that runs can be asked: no end of asking one that runs within 0.2 s: --check-config says more"
    assert lines(capsys) == [said]
    assert program._tell(lambda _conf: {"a": 1}, cfg.ConfigOpts(), 10.0) == 0


def look_at_store(folder: Path) -> str | None:
    conf = cfg.ConfigOpts()
    options.register(conf)
    conf([], default_config_files=[], default_config_dirs=[])
    conf.set_override("state_path", str(folder))
    return checks.endpoints(conf)[-1].look()


def test_store_of_another_worker(tmp_path: Path) -> None:
    """A state_path that a running worker holds is good: it is checked beside it, before it is restarted."""
    lock = store.Lock(tmp_path)
    try:
        assert look_at_store(tmp_path) is None
    finally:
        lock.release()
    assert look_at_store(tmp_path) is None


def test_store_that_is_not_there_yet(tmp_path: Path) -> None:
    """A check makes no folder, and tells whether one could be made."""
    assert look_at_store(tmp_path / "a" / "b") is None
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").touch()
    assert "cannot be made" in (look_at_store(tmp_path / "file" / "b") or "")


def test_store_that_is_broken(tmp_path: Path) -> None:
    """A broken file is told before the start, and left as it is."""
    (tmp_path / store.FILE).write_bytes(b"not a database, though long enough to be taken for one" * 100)
    assert "is broken" in (look_at_store(tmp_path) or "")
    assert (tmp_path / store.FILE).exists()


def test_a_bad_value_stops_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The worker does not start with a value out of bounds, and says which."""
    assert worker.run(write_config(tmp_path, "[agent]\nworkers = 0\n"), cfg.ConfigOpts()) == 1
    assert lines(capsys)[0].startswith("[agent] workers: 0: ")


@pytest.mark.parametrize(
    "program",
    [
        "vmhb_worker.cmd.worker, vmhb_worker.service, vmhb_worker.adapters.rpc_server, vmhb_common.messaging.publisher",
        "vmhb_consumer.cmd.consumer, vmhb_consumer.service, vmhb_consumer.faults_half, vmhb_consumer.check_config",
    ],
)
def test_the_program_imports_no_eventlet(program: str) -> None:
    """Threads and libvirt's C calls bear no greened sockets: eventlet never gets in, though it is installed."""
    text = f"import sys, {program}\nsys.exit(sum(name.split('.')[0] == 'eventlet' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", text], check=False).returncode == 0
