"""A MariaDB of our own: own data, own socket, own port on loopback. The machine's own is neither used nor touched."""

from __future__ import annotations

import pathlib
import random
import secrets
import signal
import socket
import subprocess
import tempfile
import types

import pymysql

from .broker import PORTS
from .processes import LabError, Processes, ended_if_it_fails, wait_until

PROGRAM = "/usr/sbin/mariadbd"


class MariaDB:
    """One server with one empty database. Use as a context manager."""

    user = "vmhb"
    database = "vmhb"

    def __init__(self) -> None:
        self.password = secrets.token_hex(8)
        self.port = 0
        self._processes: Processes | None = None
        self._server = 0

    def __enter__(self) -> MariaDB:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """For SQLAlchemy."""
        return self.url_of(self.database)

    def make(self, database: str) -> str:
        """Another, empty database of this server; its URL."""
        connection = pymysql.connect(host="127.0.0.1", port=self.port, user=self.user, password=self.password)
        with connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE `{database}` CHARACTER SET utf8mb4")
        return self.url_of(database)

    def url_of(self, database: str) -> str:
        """Of one of its databases."""
        return f"mysql+pymysql://{self.user}:{self.password}@127.0.0.1:{self.port}/{database}?charset=utf8mb4"

    @property
    def folder(self) -> pathlib.Path:
        """Its files."""
        if self._processes is None:
            raise LabError("MariaDB is not started")
        return self._processes.folder

    def start(self) -> None:
        """Make the data folder, and run on a free port (~5 s)."""
        folder = pathlib.Path(tempfile.mkdtemp(prefix="vmhb-", dir="/tmp"))
        self.port = _free_port()
        self._processes = Processes(folder)
        with ended_if_it_fails(self._processes):
            self._install()
            (folder / "init.sql").write_text(
                f"CREATE DATABASE {self.database} CHARACTER SET utf8mb4;\n"
                f"CREATE USER '{self.user}'@'127.0.0.1' IDENTIFIED BY '{self.password}';\n"
                f"GRANT ALL ON *.* TO '{self.user}'@'127.0.0.1';\n"
            )
            self.boot(f"--init-file={folder / 'init.sql'}")

    def stop(self) -> None:
        """End it, and remove its files."""
        if self._processes is not None:
            self._processes.end()
            self._processes = None

    def boot(self, *more: str) -> None:
        """Run it where it was halted."""
        assert self._processes is not None
        options = [f"--port={self.port}", "--bind-address=127.0.0.1", "--skip-name-resolve", "--skip-log-bin"]
        options += [f"--socket={self.folder}/sock", f"--pid-file={self.folder}/pid", *more]
        argv = [PROGRAM, "--no-defaults", f"--datadir={self.folder}/data", "--user=root", *options]
        self._server = self._processes.spawn(argv, log=self.folder / "server.out")
        wait_until(self._ready, 60, "MariaDB is ready", every=0.1)

    def halt(self) -> None:
        """SIGKILL, as a host that fails; its files stay."""
        assert self._processes is not None
        self._processes.signal(self._server, signal.SIGKILL)
        wait_until(
            lambda: self._processes is not None and self._processes.exit_of(self._server) is not None, 10, "gone"
        )

    def _install(self) -> None:
        done = subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={self.folder}/data", "--user=root", "--skip-test-db"],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise LabError(f"mariadb-install-db: {done.stdout[-1000:]}{done.stderr[-1000:]}")

    def _ready(self) -> bool:
        assert self._processes is not None
        if self._processes.exit_of(self._server) is not None:
            raise LabError(f"MariaDB ended at once: {(self.folder / 'server.out').read_text()[-2000:]}")
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                return bool(connection.recv(1))  # it speaks first
        except OSError:
            return False


def _free_port() -> int:
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
