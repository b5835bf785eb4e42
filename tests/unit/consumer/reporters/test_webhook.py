"""The webhook reporter: all cases of the kit that authors of reporters have, and what is its own."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vmhb_common.model.fault import Change
from vmhb_consumer.reporters.outcomes import Done, Later
from vmhb_consumer.reporters.testing import NOON, Backend, Consumer, HttpContract, Reply, a_fault, clear_of, options_of
from vmhb_consumer.reporters.webhook import SIGNATURE, WebhookReporter


class TestWebhook(HttpContract):
    """All of the contract."""

    reporter = WebhookReporter


def webhook(**values: Any) -> WebhookReporter:
    return WebhookReporter(options_of(WebhookReporter, **values), lambda: NOON)


@pytest.fixture
def backend() -> Iterator[Backend]:
    """One that takes everything."""
    with Backend() as one:
        yield one


def test_what_it_sends(backend: Backend) -> None:
    """All fields of the notification as JSON; a recovery that was asked for is named, also at the clear."""
    consumer = Consumer(webhook(url=f"{backend.url}hooks?x=1", token="t0k", secret="s3c"))
    fault = replace(a_fault(), recommended_action="recover", recovery_attempt=1)
    assert consumer.hears(fault) == consumer.hears(clear_of(fault)) == Done()
    first, second = backend.received
    assert (first.method, first.path, first.headers["content-type"]) == ("POST", "/hooks?x=1", "application/json")
    assert first.headers["authorization"] == "Bearer t0k"
    signed = hmac.new(b"s3c", first.body, hashlib.sha256).hexdigest()
    assert first.headers[SIGNATURE.lower()] == f"sha256={signed}"
    told = [json.loads(one.body) for one in (first, second)]
    assert [one["event_type"] for one in told] == [str(Change.RAISED), str(Change.CLEARED)]
    assert [one["recovery_was_asked_for"] for one in told] == [True, True]
    assert told[0]["fault"]["display_name"] == "wéb"
    assert told[1]["fault"]["resolution"] == "recovered"


def test_without_token_and_secret(backend: Backend) -> None:
    """Nothing is sent that was not asked for."""
    assert Consumer(webhook(url=backend.url)).hears(a_fault()) == Done()
    assert not {"authorization", SIGNATURE.lower()} & set(backend.received[0].headers)


def test_when_the_backend_says_when() -> None:
    """Retry-After is kept to, within bounds; a date is not read."""
    for said, seconds in (("7", 7.0), ("999999", 3600.0), ("-1", None), ("Fri, 02 Jan 2026 12:00:00 GMT", None)):
        with Backend(Reply(503, b"busy", {"Retry-After": said})) as busy:
            outcome = Consumer(webhook(url=busy.url)).hears(a_fault())
            assert isinstance(outcome, Later) and outcome.retry_in == seconds
            assert "webhook says 503 'busy'" in outcome.why


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "url is missing"),
        ({"url": ""}, "url is missing"),
        ({"url": "ftp://x/"}, "begins with http:// or https://"),
        ({"url": "http:///path"}, "and a host"),
        ({"url": "http://x:y/"}, "url is none"),
        ({"url": "http://x:99999/"}, "url is none"),
        ({"url": "http://u:p@x/"}, "user or password"),
        ({"url": "http://x/a b"}, "white space"),
        ({"url": "http://wéb/"}, "not ASCII"),
        ({"url": "http://x/#y"}, "fragment"),
        ({"url": "http://x/", "token": "a\nb"}, "token"),
        ({"url": "http://x/", "secret": ""}, "secret is empty"),
        ({"url": "http://x/", "keyfile": "/k"}, "keyfile without certfile"),
        ({"url": "https://x/", "cafile": "/no/such"}, "cafile, certfile or keyfile can't be used"),
    ],
)
def test_options_that_make_no_sense(values: dict[str, Any], says: str) -> None:
    """Said at once, by the option's name."""
    with pytest.raises(ValueError, match=says):
        webhook(**values)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, signed by itself, with its key."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=vmhb"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run(made, check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.fixture
def secure(certificate: Path) -> Iterator[Backend]:
    """A backend behind TLS, which wants to see our certificate."""
    backend = Backend()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    server = backend._server
    server.socket = context.wrap_socket(server.socket, server_side=True)
    backend.url = backend.url.replace("http:", "https:")
    with backend:
        yield backend


def test_tls(secure: Backend, certificate: Path) -> None:
    """By the CA that is named, with our own certificate; any server's where that is said; and nobody else's."""
    ours = {"url": secure.url, "certfile": str(certificate), "timeout": 2.0}
    assert Consumer(webhook(**ours, cafile=str(certificate))).hears(a_fault()) == Done()
    assert Consumer(webhook(**ours, insecure=True)).hears(a_fault()) == Done()
    assert webhook(**ours, cafile=str(certificate)).check() is None
    outcome = Consumer(webhook(**ours)).hears(a_fault())
    assert isinstance(outcome, Later) and "CERTIFICATE_VERIFY_FAILED" in outcome.why
    assert "cafile" in str(webhook(**ours).check())
    assert len(secure.received) == 2


def test_a_handshake_that_hangs(backend: Backend) -> None:
    """Given up within `timeout`."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"https://127.0.0.1:{deaf.getsockname()[1]}/"
        threading.Timer(20, deaf.close).start()
        outcome = Consumer(webhook(url=url, timeout=1.0)).hears(a_fault())
    assert isinstance(outcome, Later) and "no answer within 1 s" in outcome.why
