"""One cloud for all tests, and servers that end with the test that booted them.

A cloud that is up (`tools/cloud up`) is used, and left as it was; otherwise one is brought up, and ends with the tests.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.cloud import holder
from tests.cloud.site import FOLDER
from tests.cloud.stage import Server, Stage
from tests.conftest import tell_log, tell_more

#: boot(flavor, image, node): see `Stage.boot`.
Boot = Callable[..., Server]

_NUMBERS = itertools.count(1)
_SERVERS = pytest.StashKey[list[Server]]()
_LOGS = ("vmhb-worker-node1.log", "vmhb-worker-node2.log", "nova-vmhb-consumer.log")


@pytest.fixture(scope="session")
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The cloud."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        was_up = holder.is_up()
        client = holder.Client() if was_up else holder.start(os.getpid())
    one = Stage(client)
    yield one
    one.close()
    if not was_up:
        family = client.ask("family")
        assert len(family) > len(client.ask("status"))
        client.end()
        left = [pid for pid in family if Path(f"/proc/{pid}").exists()]
        assert not left, f"still running when the cloud was down: {left}"
        assert {entry.name for entry in FOLDER.iterdir()} <= {"lock", "log", "progress"}


@pytest.fixture
def boot(request: pytest.FixtureRequest, stage: Stage) -> Iterator[Boot]:
    """boot(flavor, image, node): a server that is ACTIVE; it is deleted after the test."""
    servers: list[Server] = []
    request.node.stash[_SERVERS] = servers

    def make(*arguments: str, **named: str) -> Server:
        server = stage.boot(f"server-{next(_NUMBERS)}", *arguments, **named)
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.delete()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of our parts' logs, and of its servers' consoles, with each test that failed."""
    report = yield
    if report.failed and report.when == "call":
        for server in item.stash.get(_SERVERS, []):
            tell_more(report, server.name, server.last_words())
        for name in _LOGS:
            tell_log(report, name, Path(FOLDER) / "log" / name)
    return report
