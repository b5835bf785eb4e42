"""A consumer asks another one for its database: who is believed, over `fake://`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from oslo_config import cfg

from vmhb_common import worker_api
from vmhb_common.consumer_api import ConsumerAPI, Unproven
from vmhb_common.messaging import broker, sender_keys
from vmhb_common.messaging.sender_keys import Own, Trusted
from vmhb_common.model.senders import SenderCheck
from vmhb_consumer import rpc_server
from vmhb_consumer.database import Refused
from vmhb_consumer.faults_half import Faults

TOLD = {"host": "ctl2", "database": "theirs", "counts": {"open_faults": 1}}


class Site:
    """Somebody who answers as a consumer, with a key of this name, or without."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers: list[broker.Background] = []
        self.conf = cfg.ConfigOpts()
        self.conf([], default_config_files=[], default_config_dirs=[])

    def answers(self, signer: str | None, trusted: bool = True, told: Any = None) -> None:
        """It serves."""
        own = None
        if signer is not None:
            key = sender_keys.write_own(self.folder / "own.key")
            own = Own(self.folder / "own.key", signer)
            if trusted:
                sender_keys.write_lines(self.folder / "senders", [sender_keys.line_of(signer, key.public)])
        records: Any = None
        endpoint = rpc_server.Endpoint(records, lambda: TOLD if told is None else told, own)
        server = rpc_server.server(worker_api.get_transport(self.conf, "fake://"), "ctl2", endpoint)
        self.servers.append(server)
        server.start()
        assert server.listening.wait(10)

    def asks(self, check: str) -> ConsumerAPI:
        """Another consumer."""
        transport = worker_api.get_transport(self.conf, "fake://")
        return ConsumerAPI(transport, 5, Trusted(self.folder / "senders"), SenderCheck(check))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    one = Site(tmp_path)
    yield one
    for server in one.servers:
        server.stop()


@pytest.mark.parametrize(
    ("check", "signer", "trusted", "believed"),
    [
        ("off", None, True, True),
        ("off", "worker:cn1", True, True),
        ("warn", None, True, True),
        ("warn", "consumer:ctl2", True, True),
        ("warn", "worker:cn1", True, False),
        ("enforce", "consumer:ctl2", True, True),
        ("enforce", "consumer:ctl2", False, False),
        ("enforce", None, True, False),
        ("enforce", "worker:cn1", True, False),
    ],
)
def test_who_is_believed(site: Site, check: str, signer: str | None, trusted: bool, believed: bool) -> None:
    """A consumer; while not all have keys, whoever does not sign. Or any node could say that it has another database,
    and no consumer would run that is started again."""
    site.answers(signer, trusted)
    others = site.asks(check)
    us: Any = SimpleNamespace(_others=others, _store=SimpleNamespace(identity="ours", shown="ours"))
    if believed:
        assert others.about() == TOLD
        with pytest.raises(Refused, match="in another database than ours"):
            Faults._compare(us)
    else:
        with pytest.raises(Unproven, match="not believed"):
            others.about()
        Faults._compare(us)


def test_an_answer_that_is_none(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """It keeps nobody from running, and is said."""
    site.answers(None, told=["ctl2"])
    us: Any = SimpleNamespace(_others=site.asks("off"), _store=SimpleNamespace(identity="ours", shown="ours"))
    Faults._compare(us)
    assert "whether another consumer keeps faults in another database is not known" in caplog.text
