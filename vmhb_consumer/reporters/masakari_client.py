"""Nova and Masakari as the reporter of recoveries needs them: the port, and its adapter. Decides nothing.

What goes wrong arrives as one of two exceptions: `Refused`, where Masakari understood and said no, and `Unavailable`
for all that may be otherwise with the next try: that is also an answer that Nova or Masakari did not write, see
`answers`. After the latter everything is made anew, connection and token: a role
that was granted meanwhile, or a password that was mended, counts with the next try and not when the token expires.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Protocol
from urllib.parse import quote

from keystoneauth1 import exceptions as keystone_errors
from keystoneauth1.session import Session
from openstack import connection

from vmhb_common.model.ids import uuid_of
from vmhb_common.model.moments import moment
from vmhb_common.model.words import StrEnum
from vmhb_consumer.reporters import answers
from vmhb_consumer.reporters.masakari_rules import Notification, Server

#: Masakari's pages are at most [DEFAULT] osapi_max_limit, 1000; openstacksdk asks for the next one by itself.
PAGE = 500
#: Of a server. By default Nova tells the first to administrators only, and an operator's policy may hide any.
HOST, VM_STATE, TASK_STATE = "OS-EXT-SRV-ATTR:host", "OS-EXT-STS:vm_state", "OS-EXT-STS:task_state"
#: With 1.1 a notification comes with what its tasks said. Masakari has to ask its engine for that.
DETAILED, PLAIN = "1.1", "1.0"


class No(StrEnum):
    """Why Masakari refused a notification."""

    DUPLICATE = "duplicate"
    MAINTENANCE = "maintenance"
    UNKNOWN_HOST = "unknown host"
    INVALID = "invalid"


class Refused(Exception):
    """Masakari said no. The text is Masakari's own."""

    def __init__(self, why: No, text: str) -> None:
        super().__init__(text)
        self.why = why


class Unavailable(Exception):
    """Nova, Masakari or Keystone can't be reached, or let us not in. The text says which, and what to do."""


class Clouds(Protocol):
    """What is asked of Nova and Masakari. BLOCKS. Each raises Unavailable."""

    def server(self, uuid: str) -> Server | None:
        """The instance; None where Nova has none of this uuid."""

    def notifications(self, instance_uuid: str, since: datetime) -> Sequence[Notification]:
        """Masakari's of type VM about this instance, generated since then, without what their tasks said."""

    def post(self, host: str, instance_uuid: str, event: tuple[str, str], generated_at: datetime) -> str:
        """Tell Masakari; returns the notification's uuid. Raises Refused."""

    def progress(self, notification: str) -> Notification | None:
        """One of them, with what its tasks said where the engine answers; None where Masakari has it no more."""

    def check(self, seconds: float) -> None:
        """May we read Masakari's notifications? Raises Unavailable where not. Within so many seconds."""

    def close(self) -> None:
        """Let go of the connection."""


class OpenStack:
    """Implements `Clouds`. One thread at a time."""

    def __init__(
        self,
        session: Callable[[], Session],
        region: str | None,
        interface: str,
        connect: Callable[[Session, str | None, str], Any] | None = None,
    ) -> None:
        """session: makes a new one. interface: of the catalogue, for both services. connect: for tests."""
        self._session = session
        self._connect = connect or _connect
        self._region = region
        self._interface = interface
        self._connection: Any = None

    def server(self, uuid: str) -> Server | None:
        """See `Clouds`."""

        def ask(cloud: Any) -> Server | None:
            shown = _good(answers.read(cloud.compute.get(f"/servers/{uuid_of(uuid)}"), "server"))
            return None if shown is None else _server(shown, lambda: self._stopped_by_user(cloud, uuid))

        server: Server | None = self._asked("Nova", ask)
        return server

    @staticmethod
    def _stopped_by_user(cloud: Any, uuid: str) -> bool:
        """Nova notes who asked for what. A stop of its own, after it found the guest dead, has no user."""
        answer = cloud.compute.get(f"/servers/{uuid_of(uuid)}/os-instance-actions")
        actions = _good(answers.read(answer, "instanceActions", list))
        stops = [action for action in actions or () if action["action"] == "stop"]
        # Without a record we don't know, and then nobody's machine is started.
        return not stops or max(stops, key=lambda action: str(action["start_time"]))["user_id"] is not None

    def notifications(self, instance_uuid: str, since: datetime) -> Sequence[Notification]:
        """See `Clouds`."""
        wanted = {"type": "VM", "generated-since": _written(since), "limit": PAGE}

        def ask(cloud: Any) -> list[Notification]:
            found = list(cloud.instance_ha.notifications(**wanted))
            return [_notification(one, ()) for one in found if _is_about(one.payload, instance_uuid)]

        about_it: list[Notification] = self._asked("Masakari", ask)
        return about_it

    def post(self, host: str, instance_uuid: str, event: tuple[str, str], generated_at: datetime) -> str:
        """See `Clouds`."""
        payload = {"event": event[0], "instance_uuid": instance_uuid, "vir_domain_event": event[1]}
        told = {"type": "VM", "hostname": host, "generated_time": _written(generated_at), "payload": payload}

        def ask(cloud: Any) -> str | answers.Refusal:
            meant = answers.read(cloud.instance_ha.post("/notifications", json={"notification": told}), "notification")
            return meant if isinstance(meant, answers.Refusal) else str(_there(meant)["notification_uuid"])

        posted: str | answers.Refusal = self._asked("Masakari", ask)
        if isinstance(posted, answers.Refusal):
            raise Refused(_why(posted), posted.text)
        return posted

    def progress(self, notification: str) -> Notification | None:
        """See `Clouds`. While the engine is away, Masakari can't say what its tasks said, and answers with 500."""
        try:
            return self._progress(notification, DETAILED)
        except Unavailable:
            return self._progress(notification, PLAIN)

    def _progress(self, notification: str, version: str) -> Notification | None:
        def ask(cloud: Any) -> Notification | None:
            answer = cloud.instance_ha.get(f"/notifications/{quote(notification, safe='')}", microversion=version)
            shown = _good(answers.read(answer, "notification"))
            return None if shown is None else _notification(shown, _messages(shown))

        found: Notification | None = self._asked("Masakari", ask)
        return found

    def check(self, seconds: float) -> None:
        """See `Clouds`."""

        def ask(cloud: Any) -> None:
            _there(
                answers.read(cloud.instance_ha.get("/notifications?limit=1", timeout=seconds), "notifications", list)
            )

        self._asked("Masakari", ask)

    def close(self) -> None:
        """See `Clouds`."""
        self._connection = None

    def _asked(self, whom: str, ask: Callable[[Any], Any]) -> Any:
        """What `ask` returns; Unavailable where it raises, whatever that is: the libraries below let through much."""
        try:
            if self._connection is None:
                self._connection = self._connect(self._session(), self._region, self._interface)
            return ask(self._connection)
        except Exception as error:
            self._connection = None
            raise Unavailable(f"{whom} {_what_to_do(error)}: {_text(error)}") from error


class _Unclear(Exception):
    """An answer that can't be understood. The text says what was answered; code: its HTTP status."""

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.status_code = code


def _good(meaning: answers.Meaning) -> Any:
    """What was asked for; None where the API itself says that it is not there. Raises _Unclear."""
    match meaning:
        case answers.Found(value):
            return value
        case answers.Absent():
            return None
        case answers.Refusal(code, text):
            raise _Unclear(f"it answers {code}: {text}", code)
        case answers.Unclear(why, code):
            raise _Unclear(f"it {why}", code)


def _there(meaning: answers.Meaning) -> Any:
    """What was asked for, which can't be absent. Raises _Unclear."""
    value = _good(meaning)
    if value is None:
        raise _Unclear(f"it answers {answers.NOT_FOUND}", answers.NOT_FOUND)
    return value


def _server(shown: Mapping[str, Any], stopped_by_user: Callable[[], bool]) -> Server:
    """An instance as Nova shows it. An attribute that is kept from us is not one that is null. Raises _Unclear."""
    hidden = [name for name in (HOST, VM_STATE, TASK_STATE) if name not in shown]
    if hidden:
        raise _Unclear(f"it does not tell {', '.join(hidden)}: the user of [reporter_masakari] needs the role admin")
    vm_state = str(shown[VM_STATE])
    return Server(
        host=shown[HOST],
        vm_state=vm_state,
        task_state=shown[TASK_STATE],
        metadata=shown.get("metadata") or {},
        stopped_by_user=vm_state == "stopped" and stopped_by_user(),
    )


def _connect(session: Session, region: str | None, interface: str) -> Any:
    return connection.Connection(
        session=session, region_name=region, compute_api_version="2", interface=interface, app_name="nova-vmhb"
    )


def _why(refusal: answers.Refusal) -> No:
    """Of the two that it answers with 409 only the words tell which."""
    if refusal.code == 409:
        return No.MAINTENANCE if "maintenance" in refusal.text else No.DUPLICATE
    return No.UNKNOWN_HOST if "could not be found" in refusal.text else No.INVALID


def _what_to_do(error: Exception) -> str:
    code = getattr(error, "status_code", None) or getattr(error, "http_status", None)
    if code == 401 or isinstance(error, keystone_errors.MissingRequiredOptions):
        return "refuses our credentials: check those in [reporter_masakari]"
    if code == 403:
        return "lets us not do it, the user of [reporter_masakari] needs the role admin"
    if isinstance(error, keystone_errors.CatalogException):
        return "is not in Keystone's catalogue, check region_name and interface in [reporter_masakari]"
    return "can't be asked"


def _text(error: Exception) -> str:
    """In one line."""
    return " ".join(str(error).split())[:300]


def _written(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")


def _messages(shown: Mapping[str, Any]) -> tuple[str, ...]:
    tasks = shown.get("recovery_workflow_details") or []
    details = [detail for task in tasks for detail in task.get("progress_details") or []]
    return tuple(str(detail["message"]) for detail in details)


def _is_about(payload: Any, instance_uuid: str) -> bool:
    """One that makes no sense is nobody's: it does not stand in the way of all others."""
    return isinstance(payload, Mapping) and payload.get("instance_uuid") == instance_uuid


def _notification(shown: Mapping[str, Any] | Any, messages: tuple[str, ...]) -> Notification:
    payload = shown["payload"]
    return Notification(
        uuid=shown["notification_uuid"],
        instance_uuid=payload["instance_uuid"],
        event=(payload.get("event"), payload.get("vir_domain_event")),
        generated_at=moment(shown["generated_time"]).replace(tzinfo=timezone.utc),
        status=shown["status"],
        messages=messages,
    )
