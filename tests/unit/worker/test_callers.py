"""Who may tell a worker something, and how its answers are known to be its own: both ends, over `fake://`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from tests.fakes import CalledEngine
from tests.lab.processes import wait_until
from tests.unit.common.keyring import a_pair
from vmhb_common import worker_api
from vmhb_common.messaging import sender_keys, signing
from vmhb_common.messaging.callers import Callers
from vmhb_common.messaging.sender_keys import Own, Trusted
from vmhb_common.messaging.signing import PrivateKey
from vmhb_common.model.senders import CLOCKS, SenderCheck, SenderSettings
from vmhb_common.model.silences import MAX_SILENCE
from vmhb_common.worker_api import InvalidArgument, Unproven, WorkerAPI
from vmhb_worker.adapters.rpc_server import Server

UUID = "5c1a1b5e-9ce2-4e0f-8f0c-3c0d0a4f7d11"
NOWHERE = Path("/nonexistent")
NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)


class Site:
    """A worker `cn1` and whoever speaks with it, each with a key, or without."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.senders = folder / "senders"
        self.servers: list[Server] = []
        self.conf = cfg.ConfigOpts()
        self.conf([], default_config_files=[], default_config_dirs=[])

    def key(self, name: str, trusted: bool = True) -> Own:
        """A new one."""
        file = self.folder / f"{name}.key"
        line = sender_keys.line_of(name, sender_keys.write_own(file).public)
        if trusted:
            with self.senders.open("a", encoding="ascii") as opened:
                opened.write(f"{line}\n")
        return Own(file, name)

    def worker(self, engine: CalledEngine, check: str, own: Own | None = None, host: str = "cn1") -> None:
        """It serves."""
        callers = Callers("cn1", SenderSettings(NOWHERE, SenderCheck(check), self.senders), own)
        server = Server(worker_api.get_transport(self.conf, "fake://"), host, engine, callers=callers)
        self.servers.append(server)
        server.start()
        assert server.listening.wait(10)

    def caller(self, own: Own | None = None, check: str = "off") -> WorkerAPI:
        """Somebody."""
        transport = worker_api.get_transport(self.conf, "fake://")
        return WorkerAPI(transport, None, 5, own, Trusted(self.senders), SenderCheck(check))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    one = Site(tmp_path)
    yield one
    for server in one.servers:
        server.stop()


#: All that changes something, as it is told.
TOLD: dict[str, Callable[[WorkerAPI], Any]] = {
    "configure": lambda api: api.configure("cn1", UUID, {"heartbeat": "true"}),
    "expect_silence": lambda api: api.expect_silence("cn1", UUID, key="k", reason="r", timeout=1.5, observed_at=NOON),
    "end_silence": lambda api: api.end_silence("cn1", UUID, key="k", observed_at=NOON),
    "release_brake": lambda api: api.release_brake("cn1", "it is well"),
}


@pytest.mark.parametrize("method", TOLD)
@pytest.mark.parametrize(
    ("check", "signer", "obeyed"),
    [
        ("off", None, True),
        ("warn", None, True),
        ("warn", "consumer:ctl", True),
        ("warn", "worker:cn2", False),
        ("enforce", None, False),
        ("enforce", "consumer:ctl", True),
        ("enforce", "worker:cn2", False),
        ("enforce", "worker:cn1", False),
    ],
)
def test_who_is_obeyed(site: Site, method: str, check: str, signer: str | None, obeyed: bool) -> None:
    """A consumer; while not all have keys, whoever does not sign at all; never another node."""
    own = site.key(signer) if signer else None
    engine = CalledEngine(release_brake=True)
    site.worker(engine, check)
    api = site.caller(own)
    try:
        TOLD[method](api)
    except InvalidArgument as error:
        assert not obeyed and "only a consumer whose key is trusted" in str(error)
    api.show("cn1", UUID)  # comes after it
    # Two calls of one caller may overtake each other.
    there = {"show", method} if obeyed else {"show"}
    wait_until(lambda: there <= {one.method for one in engine.calls}, 5, "all is there")
    assert [one.method for one in engine.calls if one.method != "show"] == ([method] if obeyed else [])


def test_a_stranger_s_key_is_not_trusted(site: Site) -> None:
    """It says that it is a consumer's."""
    engine = CalledEngine()
    site.worker(engine, "enforce")
    with pytest.raises(InvalidArgument, match="not trusted"):
        TOLD["release_brake"](site.caller(site.key("consumer:evil", trusted=False)))
    assert engine.calls == []


@pytest.mark.parametrize(
    ("check", "signer", "believed"),
    [
        ("off", None, True),
        ("warn", None, True),
        ("warn", "worker:cn1", True),
        ("warn", "worker:cn2", False),
        ("enforce", "worker:cn1", True),
        ("enforce", None, False),
        ("enforce", "worker:cn2", False),
        ("enforce", "consumer:ctl", False),
    ],
)
def test_whose_answer_is_believed(site: Site, check: str, signer: str | None, believed: bool) -> None:
    """The worker's that was asked. A worker before has no key, and just answers."""
    shown = {"state": "silent", "age": 0.1, "spans": [1.0, 2.0], "fault": None}
    engine = CalledEngine(show=shown, list=[shown])
    site.worker(engine, "off", site.key(signer) if signer else None)
    api = site.caller(check=check)
    if believed:
        assert (api.show("cn1", UUID), api.list("cn1")) == (shown, [shown])
    else:
        with pytest.raises(Unproven, match="worker on cn1 is not believed"):
            api.show("cn1", UUID)


def test_a_caller_of_before_has_its_answer_as_it_was(site: Site) -> None:
    """It sends no number of its call, and gets the bare answer."""
    engine = CalledEngine(show={"state": "alive"})
    own = site.key("worker:cn1")
    assert Callers("cn1", SenderSettings(NOWHERE), own).sealed({}, "show", {}, {"state": "alive"}) == {"state": "alive"}
    site.worker(engine, "enforce", own)
    assert site.caller().show("cn1", UUID) == {"state": "alive"}


@pytest.mark.parametrize("context", [None, [], 7, {"vmhb_seal": {"a": 1}, "vmhb_nonce": 7}, {"vmhb_nonce": "x" * 65}])
def test_whatever_stands_in_a_context(site: Site, context: Any) -> None:
    """It is no signature, and no number."""
    callers = Callers("cn1", SenderSettings(NOWHERE, SenderCheck.ENFORCE, site.senders), site.key("worker:cn1"))
    assert "only a consumer" in str(callers.refusal(context, "configure", {}))
    assert callers.sealed(context, "show", {}, None) is None


@pytest.mark.parametrize(("keys", "level"), [(False, logging.INFO), (True, logging.WARNING)])
def test_what_is_not_signed_is_said_once(site: Site, caplog: pytest.LogCaptureFixture, keys: bool, level: int) -> None:
    """Loud once there are keys: before, nobody could sign."""
    caplog.set_level(logging.INFO)
    if keys:
        site.key("consumer:ctl")
    callers = Callers("cn1", SenderSettings(NOWHERE, SenderCheck.WARN, site.senders))
    assert [callers.refusal({}, "configure", {}) for _ in range(3)] == [None] * 3
    assert [record.levelno for record in caplog.records if "acted on" in record.getMessage()] == [level]


class Replayed:
    """A worker `cn1` that obeys the consumer `ctl` only, by the clock `now`; and who has what that one signs."""

    def __init__(self, folder: Path, check: str = "enforce") -> None:
        self.now = 1_000_000.0
        self.key: PrivateKey
        self.key, public = a_pair()
        sender_keys.write_lines(folder / "senders", [sender_keys.line_of("consumer:ctl", public)])
        settings = SenderSettings(NOWHERE, SenderCheck(check), folder / "senders")
        self.callers = Callers("cn1", settings, None, lambda: self.now)

    def said(self, ago: float = 0.0, **told: Any) -> Callable[[], str | None]:
        """Signed once, so long ago; and said as often as it is called: why not, then."""
        seal = self.key.sign("consumer:ctl", signing.CAST, signing.call("cn1", "say", told), self.now - ago)
        return lambda: self.callers.refusal({signing.SEAL: seal}, "say", told)


def test_what_is_sent_again_is_not_obeyed(tmp_path: Path) -> None:
    """As by somebody who could read the queue: the brake is released once. What has a time of its own changes nothing
    the second time, by that."""
    one = Replayed(tmp_path)
    release, another = one.said(reason="it is well"), one.said(ago=1.0, reason="it is well")
    assert (release(), another()) == (None, None)
    assert "sent again" in str(release()) and "sent again" in str(another())
    one.now += CLOCKS + 1
    assert "too long ago" in str(release())
    silence = one.said(key="k", observed_at="2026-01-31T12:00:00+00:00")
    assert (silence(), silence()) == (None, None)


@pytest.mark.parametrize(
    ("told", "ago", "obeyed"),
    [
        ({"reason": "r"}, CLOCKS - 1, True),
        ({"reason": "r"}, CLOCKS + 1, False),
        ({"observed_at": "x"}, CLOCKS + 1, True),  # it waited for us
        ({"observed_at": "x"}, MAX_SILENCE - 1, True),
        ({"observed_at": "x"}, MAX_SILENCE + 1, False),
        ({"reason": "r"}, -CLOCKS - 1, False),
        ({"observed_at": "x"}, -CLOCKS - 1, False),
    ],
)
def test_what_was_signed_long_ago_is_not_obeyed(tmp_path: Path, told: dict[str, Any], ago: float, obeyed: bool) -> None:
    """Or by a clock that is ahead, which could be sent again for as long as it is."""
    one = Replayed(tmp_path)
    assert (one.said(ago, **told)() is None) is obeyed
    assert one.said(0.0, **told)() is None


def test_while_it_is_only_warned_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever sends it again could as well send it without a signature."""
    one = Replayed(tmp_path, "warn")
    release = one.said(reason="r")
    assert [release() for _ in range(3)] == [None] * 3
    assert [record.getMessage() for record in caplog.records if "sent again" in record.getMessage()] == [
        "what this worker is told is sent again, and acted on: [faults] sender_check = warn"
    ]
