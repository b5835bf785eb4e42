"""A PostgreSQL of our own: own data, own socket, own port on loopback. The machine's own is neither used nor touched.

It refuses to run as root, so it runs as the user that Debian's package made.
"""

from __future__ import annotations

import pathlib
import shutil
import signal
import subprocess
import tempfile
import types

from .broker import free_ports
from .processes import LabError, Processes, ended_if_it_fails, wait_until

BIN = pathlib.Path("/usr/lib/postgresql/15/bin")
USER = "postgres"
AS_IT = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
ENV = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


class PostgreSQL:
    """One server. Use as a context manager."""

    def __init__(self) -> None:
        self.port = 0
        self._processes: Processes | None = None
        self._server = 0

    def __enter__(self) -> PostgreSQL:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        if self._processes is not None:
            self._processes.end()
            self._processes = None

    def make(self, database: str) -> str:
        """An empty database; its URL, for SQLAlchemy."""
        self._sql(f'CREATE DATABASE "{database}"')
        return f"postgresql+psycopg2://{USER}@127.0.0.1:{self.port}/{database}"

    @property
    def folder(self) -> pathlib.Path:
        """Its files."""
        if self._processes is None:
            raise LabError("PostgreSQL is not started")
        return self._processes.folder

    def start(self) -> None:
        """Make the data folder, and run on a free port (~3 s)."""
        folder = pathlib.Path(tempfile.mkdtemp(prefix="vmhb-", dir="/tmp"))
        self.port = free_ports(1)[0]
        self._processes = Processes(folder)
        with ended_if_it_fails(self._processes):
            shutil.chown(folder, USER, USER)
            self._run("initdb", "--pgdata", f"{folder}/data", "--auth", "trust", "--encoding", "UTF8")
            self.boot()

    def boot(self) -> None:
        """Run it where it was halted."""
        assert self._processes is not None
        options = [f"port={self.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={self.folder}"]
        program = [*AS_IT, str(BIN / "postgres"), "-D", f"{self.folder}/data"]
        program += [word for option in options for word in ("-c", option)]
        self._server = self._processes.spawn(program, log=self.folder / "server.out", env=ENV)
        wait_until(self._ready, 60, "PostgreSQL is ready", every=0.1)

    def halt(self) -> None:
        """SIGQUIT, its way to end at once and recover at the next start; its files stay."""
        assert self._processes is not None
        self._processes.signal(self._server, signal.SIGQUIT)
        wait_until(
            lambda: self._processes is not None and self._processes.exit_of(self._server) is not None, 10, "gone"
        )

    def _ready(self) -> bool:
        assert self._processes is not None
        if self._processes.exit_of(self._server) is not None:
            raise LabError(f"PostgreSQL ended at once: {(self.folder / 'server.out').read_text()[-2000:]}")
        try:
            self._run("pg_isready", "--host", "127.0.0.1", "--port", str(self.port))
        except LabError:
            return False
        return True

    def _sql(self, statement: str) -> None:
        self._run("psql", "--host", "127.0.0.1", "--port", str(self.port), "--quiet", "--command", statement)

    def _run(self, program: str, *argv: str) -> None:
        done = subprocess.run(
            [*AS_IT, str(BIN / program), *argv], check=False, env=ENV, cwd="/", capture_output=True, text=True
        )
        if done.returncode:
            raise LabError(f"{program}: {done.returncode}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
