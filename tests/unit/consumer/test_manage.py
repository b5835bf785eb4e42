"""`nova-vmhb-manage recoveries`: the operator's door, beside a consumer that runs, and what it refuses."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from tests.stage.tables import execute, lay
from tests.unit.consumer.conftest import THEN, Desk
from tests.unit.consumer.test_recovery_places import asks, permits
from vmhb_common import worker_api
from vmhb_common.messaging.no_eventlet import without_eventlet
from vmhb_common.model import fault as life
from vmhb_common.model.fault import Resolution
from vmhb_consumer import recovery_places
from vmhb_consumer.cmd import manage
from vmhb_consumer.cmd.manage import DONE, FAILED, WRONG
from vmhb_consumer.database import Database
from vmhb_consumer.recovery_limits import PAUSED
from vmhb_consumer.settings import RecoverySettings

with without_eventlet():
    import oslo_messaging

FILE = "nova-vmhb-consumer.sqlite"
TIMES = "say one whole number and m, h or d, from 1m to 7d, such as 90m or 2h"
PAUSE = ("recoveries", "pause", "--reason", "storage is being moved", "--for", "2h")


@dataclass
class Door:
    """The command, at a time that is set, with a configuration of its own."""

    folder: Path
    screen: pytest.CaptureFixture[str]
    more: str = ""
    config: str = ""  # of [DEFAULT]

    def __call__(self, *arguments: str, at: float = THEN) -> tuple[int, str, str]:
        """Exit code, and what it says."""
        path = self.folder / "consumer.conf"
        path.write_text(f"[DEFAULT]\nstate_path = {self.folder}\n{self.config}{self.more}")
        self.screen.readouterr()
        code = manage.run([f"--config-file={path}", *arguments], cfg.ConfigOpts(), lambda: at)
        return (code, *self.screen.readouterr())


@pytest.fixture
def door(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Door:
    return Door(tmp_path, capsys)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Desk]:
    """A consumer on the SQLite file: it holds the lock that keeps a second one out."""
    database = Database(f"sqlite:///{tmp_path / FILE}")
    database.open()
    yield Desk(database)
    database.close()


def test_beside_a_consumer(door: Door, running: Desk) -> None:
    """Pressed, shown and released while it runs; the consumer obeys at once."""
    running.take(asks(1), asks(2, "other"), asks(3))
    one = permits(running)
    assert one.ask(asks(1), "one", running.clock).granted
    code, said, wrong = door(*PAUSE)
    assert (code, wrong) == (DONE, "")
    assert said.splitlines()[0] == "recoveries are paused until 2026-01-02 05:04:05 UTC: storage is being moved"
    assert one.ask(asks(2, "other"), "one", running.clock).withheld == PAUSED
    code, said, wrong = door("recoveries", "show", at=THEN + 60.0)
    assert (code, wrong) == (DONE, "")
    lines = said.splitlines()
    assert lines[0].startswith(
        "recoveries: paused until 2026-01-02 05:04:05 UTC: storage is being moved (for 1 h 59 min more; said by "
    )
    assert lines[1:] == [
        "limits: 10 at a time, 20 a minute, 3 of one instance within 3600 s",
        "places: 1 of 10 are held",
        "  project acme: 1",
        "waiting: 1",
        "  project other: 1",
        f"  instance {asks(2).instance_uuid}, for 1 min: paused until 2026-01-02 05:04:05 UTC: storage is being moved",
    ]
    assert door("recoveries", "resume")[:2] == (
        DONE,
        "the pause is over (it was paused until 2026-01-02 05:04:05 UTC: storage is being moved); recoveries are begun "
        "as they are asked for\n",
    )
    assert one.ask(asks(2, "other"), "one", running.clock).granted
    assert door("recoveries", "resume")[:2] == (DONE, "recoveries were not paused\n")
    assert door("recoveries", "show")[1].startswith("recoveries: begun as they are asked for\n")


def test_while_the_consumer_writes(door: Door, running: Desk) -> None:
    """Neither keeps the other from writing, nor is it taken for a database that is away."""
    ended, failed = threading.Event(), []

    def work() -> None:
        number = 10
        while not ended.is_set():
            number += 1
            try:
                running.take(asks(number))
            except Exception as error:
                failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        codes = [door(*command)[0] for _ in range(10) for command in (PAUSE, ("recoveries", "show"))]
    finally:
        ended.set()
        thread.join(30)
    assert codes == [DONE] * 20
    assert failed == []


def test_shown(door: Door, running: Desk) -> None:
    """Limits by the configuration, projects that are not known, and no more than some of a crowd, without tricks."""
    running.take(*(asks(number, None) for number in range(30)), asks(99, "a\x1b[2Jb"))
    door.more = "[recovery]\nmax_concurrent = 1\n"
    one = permits(running, limits := RecoverySettings(max_concurrent=1, action_ttl=9999.0))
    for number in range(30):
        one.ask(asks(number, None), "one", running.clock)
    running.database.run(
        lambda connection: recovery_places.wait(connection, asks(99, "a\x1b[2Jb"), "one", "x\ny", running.clock())
    )
    code, said, _ = door("recoveries", "show")
    lines = said.splitlines()
    assert code == DONE
    assert lines[1].startswith(f"limits: {limits.max_concurrent} at a time")
    assert lines[2:7] == [
        "places: 1 of 1 are held",
        "  project not known: 1",
        "waiting: 30",
        "  project not known: 29",
        "  project a?[2Jb: 1",
    ]
    assert len(lines) == 7 + 20 + 1 and lines[-1] == "  and 10 more"
    door.more = "[recovery]\nmax_concurrent = 0\n"
    assert door("recoveries", "show")[1].startswith("recoveries: not begun ([recovery] max_concurrent = 0)\n")
    door.more = "[recovery]\nobserve_only = true\n"
    assert door("recoveries", "show")[1].startswith("recoveries: only observed ([recovery] observe_only)\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "the following arguments are required: recoveries"),
        (("recoveries",), "the following arguments are required: pause|resume|show"),
        (("recoveries", "stop"), "invalid choice: 'stop'"),
        (("recoveries", "pause", "--for", "2h"), "the following arguments are required: --reason"),
        (("recoveries", "pause", "--reason", "x"), "the following arguments are required: --for"),
        (
            (*PAUSE[:-1], "8d"),
            f"'8d' is no such time: {TIMES}",
        ),
        (
            (*PAUSE[:-1], "for ever"),
            f"'for ever' is no such time: {TIMES}",
        ),
        (("recoveries", "pause", "--for", "2h", "--reason", " "), "' ' is no reason: say one line"),
        ((*PAUSE, "--force"), "unrecognized arguments: --force"),
    ],
)
def test_what_was_typed_makes_no_sense(door: Door, running: Desk, arguments: tuple[str, ...], says: str) -> None:
    """Exit code 2, what to say instead, and nothing is changed."""
    code, said, wrong = door(*arguments)
    assert (code, said) == (WRONG, "") and says in wrong
    assert running.database.run(recovery_places.pause_of) is None


def test_help(door: Door) -> None:
    """Is no error."""
    code, said, wrong = door("--help")
    assert (code, wrong) == (DONE, "") and "exit codes: 0 done" in " ".join(said.lower().split())


def test_no_database(door: Door, tmp_path: Path) -> None:
    """It makes none, neither the file nor tables in it; and says what would."""
    code, said, wrong = door(*PAUSE)
    assert (code, said) == (FAILED, "")
    assert wrong.startswith(f"nova-vmhb-manage: there is no database {tmp_path / FILE}: is this the consumer's own")
    assert not (tmp_path / FILE).exists()
    (tmp_path / FILE).touch()
    code, said, wrong = door(*PAUSE)
    assert (code, said) == (FAILED, "") and "has none of our tables" in wrong
    assert (tmp_path / FILE).read_bytes() == b""


@pytest.mark.parametrize(
    ("version", "says"),
    [
        ("1", "has tables of version 1, from before there were revisions, and this program needs 0003: start the"),
        ("9", "has tables of revision 0003, for programs of generation 9 and later, and this one is of 3: upgrade"),
    ],
)
def test_of_another_version(door: Door, tmp_path: Path, version: str, says: str) -> None:
    """The button brings nothing up to date, and touches nothing that is not for it."""
    url = f"sqlite:///{tmp_path / FILE}"
    if version == "1":
        lay(url, version)
    else:
        newer = Database(url)
        newer.open()
        newer.close()
        execute(url, "UPDATE vmhb_meta SET value = '9' WHERE name = 'schema_version'")
    code, said, wrong = door(*PAUSE)
    assert (code, said) == (FAILED, "") and says in wrong
    assert door(*PAUSE)[2] == wrong


# -- db ----------------------------------------------------------------------------------------------------------------


def test_the_tables(door: Door, tmp_path: Path) -> None:
    """Made where there is nothing yet, for whoever owns the folder; a second time there is nothing to do."""
    assert door("db", "version")[0] == FAILED
    code, said, wrong = door("db", "sync")
    assert (code, wrong) == (DONE, "") and said.endswith(": revision 0003, by 3 steps: 0001, 0002, 0003\n")
    assert {path.stat().st_uid for path in tmp_path.iterdir()} == {tmp_path.stat().st_uid}
    code, said, wrong = door("db", "sync")
    assert (code, wrong) == (DONE, "") and said.endswith(": tables of revision 0003: nothing to do\n")
    code, said, wrong = door("db", "version")
    assert (code, wrong) == (DONE, "")
    assert said == f"0003\nsqlite:///{tmp_path / FILE} is what this program needs\n"
    assert door(*PAUSE)[0] == DONE


def test_tables_of_before(door: Door, tmp_path: Path) -> None:
    """They are recognised, and brought up to date."""
    lay(f"sqlite:///{tmp_path / FILE}", "2")
    code, said, wrong = door("db", "version")
    assert (code, wrong) == (DONE, "") and said.startswith("version 2\n")
    assert "is behind: `nova-vmhb-manage db sync` brings it to 0003" in said
    assert door("db", "sync")[0] == DONE
    assert door("db", "version")[1].startswith("0003\n")


def test_beside_a_consumer_there_is_nothing_to_do(door: Door, running: Desk) -> None:
    """It has brought them to its revision itself, and is not disturbed."""
    running.take(asks(1))
    assert "nothing to do" in door("db", "sync")[1]
    assert running.take(asks(2)) == ["new"]


def test_purge(door: Door, running: Desk) -> None:
    """What was over by then is forgotten, what is open stays; not what is over since less than an hour."""
    first, second = asks(1), asks(2)
    running.take(first, second, life.cleared(second, Resolution.RECOVERED, second.raised_at))
    running.delivered("one")
    running.delivered("two")
    running.delivered("topic:faults")
    day, later = 86400.0, THEN + 40 * 86400.0
    before = datetime.fromtimestamp(THEN + day, timezone.utc)
    for text in (before.date().isoformat(), before.isoformat(), before.replace(tzinfo=None).isoformat()):
        code, said, wrong = door("db", "purge", "--before", text, at=later)
        assert (code, wrong) == (DONE, ""), text
        assert said.startswith("1 faults" if text == before.date().isoformat() else "0 faults")
    assert running.open() == [f"{first.fault_id[0]}1"]
    code, said, wrong = door("db", "purge", "--before", before.isoformat(), at=THEN + day + 60)
    assert (code, said) == (WRONG, "") and "an hour ago or more" in wrong
    code, said, wrong = door("db", "purge", "--before", "yesterday")
    assert (code, said) == (WRONG, "") and "say a day, or a time, such as" in wrong


def test_the_configuration(door: Door, running: Desk) -> None:
    """Names that nobody knows are said, and keep nobody from the button; nor does a value that is not needed here."""
    door.more = "[recovery]\nrates = 7\n[consumer]\nreporters = none-such\nkeep = x\n"
    code, said, wrong = door(*PAUSE)
    assert code == DONE and said
    assert "[recovery] rates: unknown option" in wrong and "did you mean rate?" in wrong
    door.more = "[recovery]\nrate = 0\n"
    code, said, wrong = door(*PAUSE)
    assert (code, said) == (FAILED, "") and "[recovery] rate: 0: " in wrong
    door.more = "[database]\nconnection = x\n"
    assert "[database] connection: say a URL such as" in door(*PAUSE)[2]
    door.more = "[database]\nconnection = mysql+pymysql://u:s3cret@127.0.0.1:1/vmhb\n"
    code, said, wrong = door(*PAUSE)
    assert (code, said) == (FAILED, "")
    assert wrong.startswith("nova-vmhb-manage: mysql+pymysql://u:***@127.0.0.1:1/vmhb can't be used: ")
    assert "s3cret" not in wrong


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the configuration."""
    assert manage.run(["--config-file=/nowhere", "recoveries", "show"], cfg.ConfigOpts()) == FAILED
    assert "/nowhere" in capsys.readouterr().err
    assert logging.root.manager.disable == logging.NOTSET


@pytest.fixture
def worker() -> Iterator[list[str]]:
    """A worker on the host `braked`, in this process: the reasons that it was told. Its brake is on the first time."""
    told: list[str] = []

    class Endpoint:
        target = oslo_messaging.Target(version="1.2")

        def release_brake(self, _context: dict[str, Any], *, reason: str) -> bool:
            told.append(reason)
            return len(told) == 1

    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    target = oslo_messaging.Target(exchange="vmhb", topic="vmhb_worker", server="braked")
    transport = worker_api.get_transport(conf, "fake:///")
    server = oslo_messaging.get_rpc_server(transport, target, [Endpoint()], executor="threading")
    server.start()
    yield told
    server.stop()
    server.wait()


def test_the_brake_of_a_host_is_released(door: Door, worker: list[str]) -> None:
    """By its worker, which is told why and by whom; whether it was on is said. No database is needed."""
    door.config = "transport_url = fake:///\n"
    release = ("brake", "release", "braked", "--reason", "the storage is back")
    code, said, wrong = door(*release)
    assert (code, wrong) == (DONE, "") and said.startswith(
        "the brake of braked is released: who was held back is asked"
    )
    code, said, wrong = door(*release)
    assert (code, wrong) == (DONE, "") and said.startswith("the brake of braked was not on. If faults there say")
    assert len(worker) == 2
    assert worker[0].startswith("the storage is back; said by ")


def test_a_worker_that_cannot_be_told(door: Door) -> None:
    """Which, why, and what to look at; typed wrongly, it is not tried at all."""
    door.config = "transport_url = rabbit://nobody@127.0.0.1:1/\n"
    code, said, wrong = door("brake", "release", "cn1", "--reason", "the storage is back")
    assert (code, said) == (FAILED, "")
    assert "no worker can be asked: 127.0.0.1:1: " in wrong and "see [DEFAULT] transport_url" in wrong
    assert door("brake", "release", "cn1")[0] == WRONG
    assert door("brake", "release", "--reason", "x")[0] == WRONG


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (oslo_messaging.MessagingTimeout(), "no worker answers for host 'cn1': is that its [DEFAULT] host"),
        (oslo_messaging.RPCVersionCapError(version="1.2", version_cap="1.0"), "raise it to 1.2"),
        (oslo_messaging.RemoteError("UnsupportedVersion", "…"), "is older than this command, and has no brake"),
        (worker_api.WorkerBusy("release_brake: no answer"), "release_brake: no answer: see the worker's log"),
        (RuntimeError(), "RuntimeError: see the worker's log"),
    ],
    ids=["nobody", "capped", "older", "busy", "whatever"],
)
def test_why_a_worker_was_not_told(error: Exception, says: str) -> None:
    """Each with its own remedy."""
    assert says in manage._untold(error, "cn1")


def test_a_pause_in_place_of_anothers(door: Door, running: Desk) -> None:
    """Whose it was, and why, is said: he may not know."""
    door(*PAUSE)
    code, said, wrong = door(*PAUSE[:3], "a test", *PAUSE[4:])
    assert (code, wrong) == (DONE, "")
    assert "in place of: paused until 2026-01-02 05:04:05 UTC: storage is being moved (said by" in said


def test_nothing_is_begun_where_there_are_no_places(door: Door, running: Desk) -> None:
    """Whatever else is said: the number goes before observing, and before the end of a pause."""
    door.more = "[recovery]\nmax_concurrent = 0\nobserve_only = true\n"
    assert "recoveries: not begun ([recovery] max_concurrent = 0)" in door("recoveries", "show")[1]
    door(*PAUSE)
    assert "recoveries are not begun ([recovery] max_concurrent = 0)" in door("recoveries", "resume")[1]
