"""The adapter for Nova and Masakari, told by HTTP answers: what of them reaches the reporter, and as what."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest
import requests

from vmhb_consumer.reporters.masakari_client import HOST, TASK_STATE, VM_STATE, No, OpenStack, Refused, Unavailable
from vmhb_consumer.reporters.masakari_rules import SILENT, Server

UUID = "9d1f0e52-8d5a-4d0e-9d62-0f2f8f6f3b21"
NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
SHOWN = {HOST: "cn1", VM_STATE: "active", TASK_STATE: None}
NOTIFICATION = {
    "notification_uuid": "n1",
    "payload": {"instance_uuid": UUID, "event": "E", "vir_domain_event": "V"},
    "generated_time": "2026-01-31T12:00:00.000000",
    "status": "finished",
}
PAGES = [
    (404, b"default backend - 404"),
    (404, b"<html>404 Not Found</html>"),
    (404, {"message": "no Route matched"}),
    (200, b"<html>Please log in</html>"),
    (200, {}),
    (300, {"versions": []}),
    (400, b"<html>The plain HTTP request was sent to HTTPS port</html>"),
    (400, {}),
    (409, b"conflict"),
    (429, b""),
    (502, b"<html>Bad Gateway</html>"),
    (503, {"error": "no healthy upstream"}),
]


class Cloud:
    """Answers each request with the next of these, and notes what was asked."""

    def __init__(self, *answers: tuple[int, Any]) -> None:
        self.compute = self.instance_ha = self
        self._answers = list(answers)
        self.asked: list[str] = []

    def get(self, path: str, **_options: Any) -> requests.Response:
        self.asked.append(path)
        code, body = self._answers.pop(0)
        made = requests.Response()
        made.status_code = code
        made._content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return made

    post = get


def asking(*answers: tuple[int, Any]) -> OpenStack:
    return OpenStack(lambda: None, None, "internal", lambda *_: Cloud(*answers))  # type: ignore[arg-type, return-value]


def test_what_nova_and_masakari_say_themselves() -> None:
    """Found, and absent."""
    absent = (404, {"itemNotFound": {"code": 404, "message": "gone"}})
    assert asking((200, {"server": SHOWN})).server(UUID) == Server("cn1", "active")
    assert asking(absent).server(UUID) is None
    assert asking(absent).progress("n1") is None
    shown = asking((200, {"notification": NOTIFICATION})).progress("n1")
    assert shown is not None and (shown.uuid, shown.status, shown.messages) == ("n1", "finished", ())
    assert asking((202, {"notification": NOTIFICATION})).post("cn1", UUID, SILENT, NOON) == "n1"


@pytest.mark.parametrize("answer", PAGES, ids=repr)
def test_whatever_else_answers_is_nobody(answer: tuple[int, Any]) -> None:
    """Not absent, not refused, not posted: asked again later. Twice, since progress asks in two ways."""
    asks: list[Callable[[OpenStack], object]] = [
        lambda cloud: cloud.server(UUID),
        lambda cloud: cloud.progress("n1"),
        lambda cloud: cloud.post("cn1", UUID, SILENT, NOON),
        lambda cloud: cloud.check(1.0),
    ]
    for ask in asks:
        with pytest.raises(Unavailable, match=f"{answer[0]}|can't be asked"):
            ask(asking(answer, answer))


@pytest.mark.parametrize("hidden", [HOST, VM_STATE, TASK_STATE])
def test_what_nova_does_not_tell_is_not_null(hidden: str) -> None:
    """An instance whose host is kept from us is not on no host: nothing can be said of it."""
    shown = {name: value for name, value in SHOWN.items() if name != hidden}
    with pytest.raises(Unavailable, match=f"does not tell {hidden}: .* needs the role admin"):
        asking((200, {"server": shown})).server(UUID)


@pytest.mark.parametrize(
    ("code", "key", "text", "why"),
    [
        (409, "conflictingRequest", "Notification is ignored as host cn1 is already under maintenance", No.MAINTENANCE),
        (409, "conflictingRequest", "Notification received for type VM is duplicate", No.DUPLICATE),
        (400, "badRequest", "Host with name cn1 could not be found.", No.UNKNOWN_HOST),
        (400, "badRequest", "Invalid input", No.INVALID),
    ],
)
def test_what_masakari_refuses(code: int, key: str, text: str, why: No) -> None:
    """Understood, and no: in its own words."""
    with pytest.raises(Refused, match=text) as refused:
        asking((code, {key: {"code": code, "message": text}})).post("cn1", UUID, SILENT, NOON)
    assert refused.value.why is why


def test_who_stopped_it_is_asked_of_one_that_is_stopped() -> None:
    """The latest stop counts; without a record nobody's machine is started."""
    stopped = (200, {"server": {**SHOWN, VM_STATE: "stopped"}})
    stops = [{"action": "stop", "start_time": f"2026-01-0{day}", "user_id": who} for day, who in ((2, None), (1, "u"))]
    for actions, by_user in (((200, {"instanceActions": stops}), False), ((200, {"instanceActions": []}), True)):
        server = asking(stopped, actions).server(UUID)
        assert server is not None and server.stopped_by_user is by_user
    with pytest.raises(Unavailable):
        asking(stopped, (404, b"404 page not found")).server(UUID)


def test_the_next_question_is_put_anew() -> None:
    """After an answer that can't be understood nothing of the connection is kept."""
    connections = [Cloud((503, b"")), Cloud((200, {"server": SHOWN}))]
    cloud = OpenStack(lambda: None, None, "internal", lambda *_: connections.pop(0))  # type: ignore[arg-type, return-value]
    with pytest.raises(Unavailable):
        cloud.server(UUID)
    assert cloud.server(UUID) is not None
