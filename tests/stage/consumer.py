"""A consumer beside the worker: its own process, its own connection, and what it read, in order.

As a program (`python -m tests.stage.consumer URL TOPIC`) it prints one JSON object a line for each notification, until
its standard input ends: so it outlives nobody who was killed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from oslo_config import cfg

from tests.lab.processes import LabError
from vmhb_common.messaging.no_eventlet import without_eventlet

with without_eventlet():
    import oslo_messaging


@dataclass(frozen=True)
class Notification:
    """One notification, and when (monotonic seconds, the same for all processes) it was read."""

    at: float
    event_type: str
    publisher_id: str
    message_id: str
    project_id: str | None
    payload: dict[str, Any]

    @property
    def data(self) -> dict[str, Any]:
        """The payload's fields."""
        fields: dict[str, Any] = self.payload["vmhb_object.data"]
        return fields

    def __getattr__(self, name: str) -> Any:
        return self.data[name]

    def __str__(self) -> str:
        d = self.data
        if "fault_id" not in d:
            return f"{self.event_type} {d.get('display_name') or d.get('host')}"
        asked = d["resolution"] or d["recommended_action"]
        withheld = f", withheld: {d['withheld']}" if d["withheld"] else ""
        return (
            f"{self.event_type} {d['display_name'] or d['host']}: {d['cause']} ({d['confidence']}; {asked}{withheld})"
        )


class Consumer:
    """What was read so far, and waiting for more. Thread-safe."""

    def __init__(self) -> None:
        self.read: list[Notification] = []
        self._came = threading.Condition()
        self.told: Callable[[Notification], None] = lambda notification: None  # called for each, on some thread

    def faults(self, uuid: str | None = None, since: float = 0.0) -> list[Notification]:
        """The fault notifications read so far, of one instance or of all."""
        with self._came:
            read = list(self.read)
        return [
            n
            for n in read
            if n.event_type.startswith("vmhb.fault.") and n.at >= since and (uuid is None or n.instance_uuid == uuid)
        ]

    def wait_for(
        self, what: str, found: Callable[[Notification], bool], timeout: float, since: float = 0.0
    ) -> Notification:
        """The first notification read after `since` that is the one. Raises LabError, with what was read instead."""
        deadline = time.monotonic() + timeout
        with self._came:
            while True:
                for notification in self.read:
                    if notification.at >= since and found(notification):
                        return notification
                left = deadline - time.monotonic()
                if left <= 0:
                    read = "\n".join(f"  {n.at:.2f} {n}" for n in self.read if n.at >= since)
                    raise LabError(f"no {what} within {timeout:g} s; read since:\n{read}")
                self._came.wait(left)

    def wait_fault(self, change: str, uuid: str, timeout: float, since: float = 0.0, **fields: Any) -> Notification:
        """A fault notification of this change ("raised"), instance, and these fields."""

        def found(n: Notification) -> bool:
            return (
                n.event_type == f"vmhb.fault.{change}"
                and n.instance_uuid == uuid
                and all(n.data[name] == value for name, value in fields.items())
            )

        return self.wait_for(f"vmhb.fault.{change} of {uuid} with {fields}", found, timeout, since)

    def take(self, told: dict[str, Any]) -> None:
        """One more."""
        with self._came:
            self.read.append(Notification(**told))
            self._came.notify_all()
        self.told(self.read[-1])


class ConsumerProcess(Consumer):
    """Reads a topic in a process of its own, from its construction to `close`."""

    def __init__(self, transport_url: str, topic: str = "vmhb_notifications") -> None:
        super().__init__()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.stage.consumer", transport_url, topic],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            raise LabError("the consumer did not start")
        threading.Thread(target=self._collect, daemon=True).start()

    @property
    def pid(self) -> int:
        """The process that reads."""
        return self._process.pid

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait(10)

    def _collect(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.take(json.loads(line))


class _Endpoint:
    def __init__(self, tell: Callable[[dict[str, Any]], None]) -> None:
        self._tell = tell

    def info(self, ctxt: Any, publisher_id: str, event_type: str, payload: Any, metadata: dict[str, Any]) -> None:
        self._tell(
            {
                "at": time.monotonic(),
                "event_type": event_type,
                "publisher_id": publisher_id,
                "message_id": metadata["message_id"],
                "project_id": ctxt.get("project_id"),
                "payload": payload,
            }
        )


def listen(transport_url: str, topic: str, tell: Callable[[dict[str, Any]], None]) -> Any:
    """Start to read; `tell` is called for each notification, in order, on a thread. Returns the listener."""
    conf = cfg.ConfigOpts()
    conf([], project="consumer", default_config_files=[], default_config_dirs=[])
    transport = oslo_messaging.get_notification_transport(conf, transport_url)
    target = oslo_messaging.Target(exchange="vmhb", topic=topic)
    listener = oslo_messaging.get_notification_listener(transport, [target], [_Endpoint(tell)], executor="threading")
    conf.set_override("executor_thread_pool_size", 1)  # in order
    listener.start()
    return listener


def main() -> None:
    """Read until whoever started us closes our standard input, or is no more."""
    url, topic = sys.argv[1:]
    listen(url, topic, lambda told: print(json.dumps(told), flush=True))
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)  # the listener's threads may wait for a broker that has gone as well


if __name__ == "__main__":
    main()
