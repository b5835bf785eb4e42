"""TLS to the broker as docs/security.rst has it: with a client's certificate, and without a password."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Figure
from tests.functional.sites import Site
from tests.functional.test_refusal import ASKED, CHECKED, ask
from tests.functional.test_reporting import new, wait_for
from tests.functional.test_rights import NODE, Layout
from tests.lab.broker import Broker, free_ports
from tests.stage.worker import WorkerProcess

pytestmark = pytest.mark.patient


@dataclass(frozen=True)
class Certificates:
    """A CA, and another one; a server's certificate by the first, for the name that is said, and clients'."""

    folder: Path

    def make(self, name: str) -> Certificates:
        for ca in ("ca", "other"):
            self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={ca}", *self._out(ca))
        self.give("server", "rabbit", "-addext", f"subjectAltName={name}")
        return self

    def give(self, file: str, subject: str, *more: str, ca: str = "ca") -> None:
        """A certificate by one of the authorities, as file.pem, and its key, as file.key."""
        given = ("-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-addext", "basicConstraints=critical,CA:FALSE", *more)
        self._openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={subject}", *given), *self._out(file)
        )

    def _out(self, name: str) -> tuple[str, ...]:
        return "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2"

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)


#: Lines of rabbitmq.conf: as RabbitMQ's manual has them.
TLS = """\
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = {folder}/ca.pem
ssl_options.certfile = {folder}/server.pem
ssl_options.keyfile = {folder}/server.key
ssl_options.verify = {verify}
"""
#: And where clients show certificates, and log in by them: docs/security.rst.
MUTUAL = (
    TLS.format(port="{port}", folder="{folder}", verify="verify_peer")
    + """\
ssl_options.fail_if_no_peer_cert = true
auth_mechanisms.1 = EXTERNAL
auth_mechanisms.2 = PLAIN
ssl_cert_login_from = common_name
"""
)


def check_with(broker: Broker, port: int, folder: Path, options: dict[str, object], figure: Figure) -> str:
    """What a worker's check says of this broker, by TLS, with these options of [oslo_messaging_rabbit]."""
    url = f"rabbit://{broker.user}:{broker.password}@127.0.0.1:{port}/{broker.vhost}"
    none = f"qemu+unix:///system?socket={folder}/none"
    given = {"oslo_messaging_rabbit": {"ssl": "true", "amqp_durable_queues": "true", **options}}
    daemon = WorkerProcess(folder / "worker", uri=none, transport_url=url, host="cn1", options=given)
    (daemon.folder / "state").mkdir(parents=True, exist_ok=True)
    _, said = ask(daemon, "--check-config", CHECKED, figure)
    return next((line for line in said.splitlines() if line.startswith("[DEFAULT] transport_url")), "")


@pytest.mark.long
def test_tls(tmp_path: Path, figure: Figure) -> None:
    """By TLS faults are delivered and workers asked; a certificate of another authority's is refused, and said."""
    Certificates(tmp_path).make("IP:127.0.0.1")
    (port,) = free_ports(1)
    with Broker(more=TLS.format(port=port, folder=tmp_path, verify="verify_none")) as broker:
        ours, other = {"ssl_ca_file": tmp_path / "ca.pem"}, {"ssl_ca_file": tmp_path / "other.pem"}
        assert check_with(broker, port, tmp_path, {**ours}, figure) == ""
        assert "CERTIFICATE_VERIFY_FAILED" in check_with(broker, port, tmp_path, {**other}, figure)
        url = f"rabbit://{broker.user}:{broker.password}@127.0.0.1:{port}/{broker.vhost}"
        url += f"?amqp_durable_queues=true&ssl=true&ssl_ca_file={tmp_path / 'ca.pem'}"
        site = Site(tmp_path, broker, url)
        try:
            workers, consumer = site.workers("cn1"), site.consumer()
            workers.publish(new(1))
            wait_for(lambda: len(consumer.told("recovering")) == 1, 30)
            assert workers.asked
        finally:
            site.close()


def rabbit(folder: Path, client: str) -> dict[str, object]:
    """[oslo_messaging_rabbit] of one that shows this certificate, and has no password."""
    return {
        "ssl": "true",
        "ssl_ca_file": folder / "ca.pem",
        "ssl_cert_file": folder / f"{client}.pem",
        "ssl_key_file": folder / f"{client}.key",
        "rabbit_login_method": "EXTERNAL",
        "amqp_durable_queues": "true",
    }


def test_certificates_in_the_place_of_passwords(tmp_path: Path, figure: Figure) -> None:
    """End to end, as recommended: two virtual hosts, the script's rights, and a certificate for each user. A worker is
    heard and asked. One that shows the certificate of another authority, or of a user that there is not, is not let in.
    """
    made = Certificates(tmp_path).make("IP:127.0.0.1")
    (port,) = free_ports(1)
    more = MUTUAL.format(port=port, folder=tmp_path)
    with Broker(more=more, plugins=("rabbitmq_auth_mechanism_ssl",)) as broker:
        site = Site(tmp_path, broker, f"rabbit://127.0.0.1:{port}/rpc")
        layout = Layout(site)
        for kind, host in (("worker", [NODE]), ("consumer", [])):
            words = ["--user", f"a-{kind}", "--certificate", kind, *host]
            done = layout.run(*words, password=False)
            assert done.returncode == 0 and "password of" not in done.stdout, done.stdout + done.stderr
            made.give(kind, f"a-{kind}")
        made.give("stranger", "a-stranger")
        made.give("forged", "a-worker", ca="other")
        consumer = site.consumer(start=False)
        daemon = WorkerProcess(tmp_path / "worker", uri="qemu+unix:///system?socket=/none", transport_url="", host=NODE)
        for program, client in ((consumer, "consumer"), (daemon, "worker")):
            program.set("DEFAULT", "transport_url", site.url)
            program.set("vmhb_notifications", "transport_url", f"{site.url}-faults")
            configure(program, rabbit(tmp_path, client))
            (program.folder / "state").mkdir(parents=True)
        daemon.set("DEFAULT", "own_queue_only", "true")
        try:
            assert ask(consumer, "--check-config", CHECKED, figure) == (0, "configuration is good\n")
            consumer.start()
            wait_for(lambda: consumer.said("RPC is served") > 0, 30)
            _, said = ask(daemon, "--check-config", CHECKED, figure)
            assert [line.partition(":")[0] for line in said.splitlines()] == ["[libvirt] connection_uri"]
            daemon.start()
            wait_for(lambda: daemon.said("RPC is served") == 1, 30)
            wait_for(lambda: '"workers": 1' in ask(consumer, "--status", ASKED, figure)[1], 90)
            daemon.stop()
            for wrong, why in (("forged", ""), ("stranger", "ACCESS_REFUSED")):
                configure(daemon, rabbit(tmp_path, wrong))
                _, said = ask(daemon, "--check-config", CHECKED, figure)
                lines = [line for line in said.splitlines() if "transport_url" in line]
                assert len(lines) == 2 and why in lines[0], said
        finally:
            daemon.stop()
            site.close()


def configure(program: WorkerProcess, options: dict[str, object]) -> None:
    """[oslo_messaging_rabbit]."""
    for name, value in options.items():
        program.set("oslo_messaging_rabbit", name, value)
