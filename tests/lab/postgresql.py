"""A PostgreSQL of our own: own data, own socket, own port on loopback. The machine's own is neither used nor touched.

It refuses to run as root, so it runs as the user that Debian's package made.
"""

from __future__ import annotations

import pathlib
import shutil
import signal
import subprocess

from .database import DatabaseServer
from .processes import LabError

BIN = pathlib.Path("/usr/lib/postgresql/15/bin")
USER = "postgres"
AS_IT = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
ENV = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


class PostgreSQL(DatabaseServer):
    """One server. Use as a context manager."""

    name = "PostgreSQL"
    end_signal = signal.SIGQUIT  # its own way to end at once and recover at the next start

    def make(self, database: str) -> str:
        """An empty database; its URL, for SQLAlchemy."""
        statement = f'CREATE DATABASE "{database}"'
        self._run("psql", "--host", "127.0.0.1", "--port", str(self.port), "--quiet", "--command", statement)
        return f"postgresql+psycopg2://{USER}@127.0.0.1:{self.port}/{database}"

    def _install(self) -> None:
        shutil.chown(self.folder, USER, USER)
        self._run("initdb", "--pgdata", f"{self.folder}/data", "--auth", "trust", "--encoding", "UTF8")
        self.boot()

    def _program(self, *more: str) -> list[str]:
        options = [f"port={self.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={self.folder}"]
        words = [word for option in options for word in ("-c", option)]
        return [*AS_IT, str(BIN / "postgres"), "-D", f"{self.folder}/data", *words, *more]

    def _environ(self) -> dict[str, str]:
        return ENV

    def _answers(self) -> bool:
        try:
            self._run("pg_isready", "--host", "127.0.0.1", "--port", str(self.port))
        except LabError:
            return False
        return True

    def _run(self, program: str, *argv: str) -> None:
        done = subprocess.run(
            [*AS_IT, str(BIN / program), *argv], check=False, env=ENV, cwd="/", capture_output=True, text=True
        )
        if done.returncode:
            raise LabError(f"{program}: {done.returncode}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
