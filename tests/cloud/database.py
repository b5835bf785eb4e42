"""A MariaDB of our own: a unix socket and no port, and nothing that survives a power cut."""

from __future__ import annotations

import subprocess
import time

import pymysql

from tests.cloud.site import DATABASES, Site
from tests.lab.processes import LabError, Processes

FAST = (
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-file-size=16M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=0",
    "--innodb-flush-method=nosync",
    "--sync-binlog=0",
    "--skip-log-bin",
    "--performance-schema=OFF",
)


def start(site: Site, processes: Processes) -> int:
    """Make it, start it, and make the databases in it (~2 s). Its pid."""
    data = site.data / "mariadb"
    done = subprocess.run(
        [
            "mariadb-install-db",
            "--no-defaults",
            f"--datadir={data}",
            "--user=root",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--innodb-log-file-size=16M",
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise LabError(f"mariadb-install-db: {done.stdout}{done.stderr}")
    pid = processes.spawn(
        [
            "/usr/sbin/mariadbd",
            "--no-defaults",
            "--user=root",
            f"--datadir={data}",
            f"--socket={site.socket}",
            f"--pid-file={data}/pid",
            "--skip-networking",
            "--skip-name-resolve",
            "--max-connections=300",
            *FAST,
        ],
        log=site.log / "mariadb.out",
    )
    _make(site)
    return pid


def _make(site: Site) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            connection = pymysql.connect(user="root", unix_socket=str(site.socket))
            break
        except pymysql.OperationalError as error:
            if time.monotonic() > deadline:
                raise LabError(f"MariaDB does not answer: see {site.log}/mariadb.out") from error
            time.sleep(0.1)
    with connection, connection.cursor() as cursor:
        for name in DATABASES:
            cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb3")
