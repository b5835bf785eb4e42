"""A MariaDB of our own: own data, own socket, own port on loopback. The machine's own is neither used nor touched."""

from __future__ import annotations

import pathlib
import secrets
import signal
import socket
import subprocess

import pymysql

from .database import DatabaseServer
from .processes import LabError

PROGRAM = "/usr/sbin/mariadbd"


class MariaDB(DatabaseServer):
    """One server with one empty database. Use as a context manager."""

    name = "MariaDB"
    end_signal = signal.SIGKILL
    user = "vmhb"
    database = "vmhb"

    def __init__(self) -> None:
        super().__init__()
        self.password = secrets.token_hex(8)

    @property
    def url(self) -> str:
        """For SQLAlchemy."""
        return self.url_of(self.database)

    @property
    def socket(self) -> pathlib.Path:
        """Where root is let in, who may do everything."""
        return self.folder / "sock"

    def make(self, database: str) -> str:
        """Another, empty database of this server; its URL."""
        connection = pymysql.connect(host="127.0.0.1", port=self.port, user=self.user, password=self.password)
        with connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE `{database}` CHARACTER SET utf8mb4")
        return self.url_of(database)

    def url_of(self, database: str) -> str:
        """Of one of its databases."""
        return f"mysql+pymysql://{self.user}:{self.password}@127.0.0.1:{self.port}/{database}?charset=utf8mb4"

    def _install(self) -> None:
        done = subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={self.folder}/data", "--user=root", "--skip-test-db"],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise LabError(f"mariadb-install-db: {done.stdout[-1000:]}{done.stderr[-1000:]}")
        (self.folder / "init.sql").write_text(
            f"CREATE DATABASE {self.database} CHARACTER SET utf8mb4;\n"
            f"CREATE USER '{self.user}'@'127.0.0.1' IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL ON *.* TO '{self.user}'@'127.0.0.1' WITH GRANT OPTION;\n"
        )
        self.boot(f"--init-file={self.folder / 'init.sql'}")

    def _program(self, *more: str) -> list[str]:
        options = [f"--port={self.port}", "--bind-address=127.0.0.1", "--skip-name-resolve", "--skip-log-bin"]
        options += [f"--socket={self.folder}/sock", f"--pid-file={self.folder}/pid", *more]
        return [PROGRAM, "--no-defaults", f"--datadir={self.folder}/data", "--user=root", *options]

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                return bool(connection.recv(1))  # it speaks first
        except OSError:
            return False
