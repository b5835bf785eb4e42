"""Nova and Masakari as the reporter of recoveries needs them: the port, and its adapter. Decides nothing.

What goes wrong arrives as one of two exceptions: `Refused`, where Masakari understood and said no, and `Unavailable`
for all that may be otherwise with the next try. After the latter everything is made anew, connection and token: a role
that was granted meanwhile, or a password that was mended, counts with the next try and not when the token expires.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from keystoneauth1 import exceptions as keystone_errors
from keystoneauth1.session import Session
from openstack import connection
from openstack import exceptions as sdk_errors

from vmhb_consumer.reporters.masakari_rules import Notification, Server

#: Masakari's pages are at most [DEFAULT] osapi_max_limit, 1000; openstacksdk asks for the next one by itself.
PAGE = 500
#: With 1.1 a notification comes with what its tasks said. Masakari has to ask its engine for that.
DETAILED, PLAIN = "1.1", "1.0"


class No(enum.StrEnum):
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

    def __init__(self, session: Callable[[], Session], region: str | None, interface: str) -> None:
        """session: makes a new one. interface: of the catalogue, for both services."""
        self._session = session
        self._region = region
        self._interface = interface
        self._connection: Any = None

    def server(self, uuid: str) -> Server | None:
        """See `Clouds`."""
        answer = self._asked("Nova", lambda cloud: cloud.compute.get(f"/servers/{uuid}"), missing=(404,))
        if answer is None:
            return None
        shown = answer.json()["server"]
        vm_state = str(shown["OS-EXT-STS:vm_state"])
        return Server(
            host=shown.get("OS-EXT-SRV-ATTR:host"),
            vm_state=vm_state,
            task_state=shown["OS-EXT-STS:task_state"],
            metadata=shown.get("metadata") or {},
            stopped_by_user=vm_state == "stopped" and self._stopped_by_user(uuid),
        )

    def _stopped_by_user(self, uuid: str) -> bool:
        """Nova notes who asked for what. A stop of its own, after it found the guest dead, has no user."""
        answer = self._asked("Nova", lambda cloud: cloud.compute.get(f"/servers/{uuid}/os-instance-actions"))
        actions = sorted(answer.json()["instanceActions"], key=lambda action: str(action["start_time"]))
        stops = [action for action in actions if action["action"] == "stop"]
        # Without a record we don't know, and then nobody's machine is started.
        return not stops or stops[-1]["user_id"] is not None

    def notifications(self, instance_uuid: str, since: datetime) -> Sequence[Notification]:
        """See `Clouds`."""
        wanted = {"type": "VM", "generated-since": _written(since), "limit": PAGE}
        found: list[Any] = self._asked("Masakari", lambda cloud: list(cloud.instance_ha.notifications(**wanted)))
        ours = [one for one in found if (one.payload or {}).get("instance_uuid") == instance_uuid]
        return [_notification(one, ()) for one in ours]

    def post(self, host: str, instance_uuid: str, event: tuple[str, str], generated_at: datetime) -> str:
        """See `Clouds`."""
        payload = {"event": event[0], "instance_uuid": instance_uuid, "vir_domain_event": event[1]}
        created = self._asked(
            "Masakari",
            lambda cloud: cloud.instance_ha.create_notification(
                type="VM", hostname=host, generated_time=_written(generated_at), payload=payload
            ),
        )
        return str(created.notification_uuid)

    def progress(self, notification: str) -> Notification | None:
        """See `Clouds`. While the engine is away, Masakari can't say what its tasks said, and answers with 500."""
        try:
            return self._progress(notification, DETAILED)
        except Unavailable:
            return self._progress(notification, PLAIN)

    def _progress(self, notification: str, version: str) -> Notification | None:
        path = f"/notifications/{notification}"
        answer = self._asked(
            "Masakari", lambda cloud: cloud.instance_ha.get(path, microversion=version), missing=(404,)
        )
        if answer is None:
            return None
        shown = answer.json()["notification"]
        tasks = shown.get("recovery_workflow_details") or []
        details = [detail for task in tasks for detail in task.get("progress_details") or []]
        return _notification(shown, tuple(str(detail["message"]) for detail in details))

    def check(self, seconds: float) -> None:
        """See `Clouds`."""
        self._asked("Masakari", lambda cloud: cloud.instance_ha.get("/notifications?limit=1", timeout=seconds))

    def close(self) -> None:
        """See `Clouds`."""
        self._connection = None

    def _asked(self, whom: str, ask: Callable[[Any], Any], missing: Sequence[int] = ()) -> Any:
        """What `ask` returns; None where the status is one of `missing`."""
        try:
            if self._connection is None:
                self._connection = _connect(self._session(), self._region, self._interface)
            answer = ask(self._connection)
            status = getattr(answer, "status_code", 200)
            if status in missing:
                return None
            sdk_errors.raise_from_response(answer) if hasattr(answer, "status_code") else None
            return answer
        except (sdk_errors.SDKException, keystone_errors.ClientException, ValueError, KeyError, TypeError) as error:
            code = getattr(error, "status_code", None) or getattr(error, "http_status", None)
            if whom == "Masakari" and code in (400, 409):
                raise Refused(_why(code, str(error)), _text(error)) from error
            self._connection = None
            raise Unavailable(f"{whom} {_what_to_do(code, error)}: {_text(error)}") from error


def _connect(session: Session, region: str | None, interface: str) -> Any:
    return connection.Connection(
        session=session, region_name=region, compute_api_version="2", interface=interface, app_name="nova-vmhb"
    )


def _why(code: int, text: str) -> No:
    """Of the two that it answers with 409 only the words tell which."""
    if code == 409:
        return No.MAINTENANCE if "maintenance" in text else No.DUPLICATE
    return No.UNKNOWN_HOST if "could not be found" in text else No.INVALID


def _what_to_do(code: int | None, error: Exception) -> str:
    if code == 401 or isinstance(error, keystone_errors.MissingRequiredOptions):
        return "lets us not in, check the credentials in [reporter_masakari]"
    if code == 403:
        return "lets us not do it, the user of [reporter_masakari] needs the role admin"
    if isinstance(error, keystone_errors.CatalogException):
        return "is not in Keystone's catalogue, check region_name and interface in [reporter_masakari]"
    return "can't be asked"


def _text(error: Exception) -> str:
    """In one line."""
    return " ".join(str(error).split())[:300]


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")


def _notification(shown: Mapping[str, Any] | Any, messages: tuple[str, ...]) -> Notification:
    payload = shown["payload"]
    return Notification(
        uuid=shown["notification_uuid"],
        instance_uuid=payload["instance_uuid"],
        event=(payload.get("event"), payload.get("vir_domain_event")),
        generated_at=datetime.fromisoformat(shown["generated_time"]).replace(tzinfo=UTC),
        status=shown["status"],
        messages=messages,
    )
