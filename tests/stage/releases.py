"""This release's programs and those of the one before, each in its own Python, as a cloud has them that is upgraded.

A worker watches one simulated guest, which lives and dies as it is told; whoever calls it is a program, too, so that
each end of a call is of its own release, with that release's imports.
"""

from __future__ import annotations

import json
import pathlib
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.lab.processes import LabError
from tests.stage.worker import Options, WorkerProcess
from tools.lib import prepare

#: The guest that is watched, and what its flavor asks for.
GUEST = "00000000-0000-4000-8000-000000000001"
KNOBS = {"interval": "1", "timeout": "1", "threshold": "3", "action": "recover"}


@dataclass(frozen=True)
class Release:
    """One of the two. python: begins a command line. modules: what its programs import, by what it is called below."""

    name: str
    python: tuple[str, ...]
    modules: Mapping[str, str]

    def program(self, text: str) -> tuple[str, str]:
        """Arguments of Python that run this text."""
        return "-c", textwrap.dedent(text).format(**self.modules)


NOW = Release(
    "now",
    (sys.executable,),
    {
        "worker_api": "vmhb_common.worker_api",
        "consumer_api": "vmhb_common.consumer_api",
        "command_line": "vmhb_common.app.command_line",
        "simulated": "vmhb_worker.adapters.simulated",
        "rpc_server": "vmhb_worker.adapters.rpc_server",
        "consumer": "vmhb_consumer.cmd.consumer",
    },
)


def before() -> Release:
    """The one before; made, where it is not there. Raises NotReady. Nothing of ours is on its path (-I)."""
    return Release(
        "before",
        (str(prepare.prepare(prepare.BEFORE) / "bin/python"), "-I"),
        {
            "worker_api": "vmhb_worker.rpcapi",
            "consumer_api": "nova_vmhb.consumerapi",
            "command_line": "vmhb_worker.program",
            "simulated": "vmhb_worker.simulation",
            "rpc_server": "vmhb_worker.rpc",
            "consumer": "nova_vmhb.cmd.consumer",
        },
    )


_WORKER = f"""
    import dataclasses, signal
    from {{command_line}} import main
    from {{rpc_server}} import Server
    from {{simulated}} import SimulatedGuest, SimulatedHypervisor
    from {{worker_api}} import get_transport
    from vmhb_worker import conf as options
    from vmhb_worker import service
    from vmhb_worker.cmd import worker

    def broken(asked, _arguments=None):  # a question; before, its name and arguments
        method = getattr(asked, "method", asked)
        raise TimeoutError if method == "show" else KeyError(method)

    def serve(conf, *_):  # before, the configuration alone
        guest = SimulatedGuest("web", {KNOBS!r})
        hypervisor = SimulatedHypervisor([guest])
        signal.signal(signal.SIGUSR1, lambda *_: hypervisor.panic(guest))
        signal.signal(signal.SIGUSR2, lambda *_: hypervisor.change(guest, kernel_lives=True))
        Server(get_transport(conf), conf.host + "-broken", broken).start()
        return service.Worker(conf, options.settings(conf), hypervisor).run()

    main(dataclasses.replace(worker.PROGRAM, serve=serve))
""".replace(repr(KNOBS), repr(KNOBS).replace("{", "{{").replace("}", "}}"))


class ReleasedWorker(WorkerProcess):
    """A worker of this release, with one simulated guest. Its twin "<host>-broken" fails at whatever it is asked."""

    def __init__(self, release: Release, folder: pathlib.Path, transport_url: str, host: str) -> None:
        super().__init__(folder, uri="", transport_url=transport_url, host=host)
        del self._options["libvirt"]
        self.become(release)

    def become(self, release: Release) -> None:
        """Of another release from its next start on, with the same configuration and state."""
        self.program = release.program(_WORKER)
        self.where = lambda _python, *argv: [*release.python, *argv]

    def panic(self) -> float:
        """The guest's kernel dies. Returns when."""
        return self._signal(signal.SIGUSR1, wait=False)

    def revive(self) -> float:
        """It answers again. Returns when."""
        return self._signal(signal.SIGUSR2, wait=False)


class ReleasedConsumer(WorkerProcess):
    """A consumer of this release: both halves, and the reporter that writes its log."""

    def __init__(
        self, release: Release, folder: pathlib.Path, transport_url: str, options: Options | None = None
    ) -> None:
        super().__init__(folder, uri="", transport_url=transport_url, host="controller", options=options)
        del self._options["libvirt"]
        self._options["consumer"] = {"reporters": "log"}
        self.become(release)

    def become(self, release: Release) -> None:
        """Of another release from its next start on, with the same configuration and database."""
        self.program = ("-m", release.modules["consumer"])
        self.where = lambda _python, *argv: [*release.python, *argv]

    def told(self) -> list[str]:
        """What its reporter was told, in order: `raised guest_silent, alarm`."""
        text = self.log.read_text() if self.log.exists() else ""
        return [" ".join(words) for words in re.findall(r"vmhb\.fault\.(\w+): instance \S+ on \S+: (\w+, \w+):", text)]


_CALL = """
    import datetime, json, logging, sys
    from oslo_config import cfg
    from {consumer_api} import ConsumerAPI
    from {worker_api} import InvalidArgument, WorkerAPI, WorkerBusy, WorkerFailed, get_transport

    url, target, method, arguments = sys.argv[1:]
    conf = cfg.ConfigOpts()
    conf([], project="call", default_config_files=[], default_config_dirs=[])
    transport = get_transport(conf, url)
    arguments = json.loads(arguments)
    if "observed_at" in arguments:
        arguments["observed_at"] = datetime.datetime.fromisoformat(arguments["observed_at"])
    try:
        if target:
            answer = getattr(WorkerAPI(transport, conf), method)(target, **arguments)
        else:
            answer = getattr(ConsumerAPI(transport), method)(**arguments)
        print(json.dumps([None, answer]))
    except (InvalidArgument, WorkerBusy, WorkerFailed) as error:
        kind = next(kind for kind in (InvalidArgument, WorkerBusy, WorkerFailed) if isinstance(error, kind))
        print(json.dumps([kind.__name__, str(error)]))
"""


class CallFailed(Exception):
    """The other end refused, and the caller's own release knows as what: the text begins with the error's name."""


@dataclass(frozen=True)
class Caller:
    """Whoever calls workers and consumers, in this release's Python."""

    release: Release
    transport_url: str

    def call(self, host: str, method: str, **arguments: object) -> Any:
        """A call of a worker, or of any consumer where host is ""; its answer. Raises CallFailed."""
        argv = (self.transport_url, host, method, json.dumps(arguments))
        done = subprocess.run(
            [*self.release.python, *self.release.program(_CALL), *argv],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise LabError(f"{method} of {self.release.name}: {done.stderr[-2000:]}")
        error, answer = json.loads(done.stdout.splitlines()[-1])
        if error is not None:
            raise CallFailed(f"{error}: {answer}")
        return answer
