"""What a test sees of the cloud: Nova's API, our notifications, workers' RPC, and its servers with their guests."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from openstack.exceptions import NotFoundException, SDKException
from oslo_config import cfg

from tests.cloud import catalogue
from tests.cloud.configs import FAULT_TOPICS
from tests.cloud.site import Site
from tests.lab.processes import LabError, wait_until
from tests.stage.consumer import ConsumerProcess, Notification
from vmhb_common import worker_api
from vmhb_common.consumer_api import ConsumerAPI
from vmhb_common.worker_api import WorkerAPI

#: Seconds in which a healthy server that asks for an interval of 1 s has acknowledged twice.
FRESH = 2.5
#: From the last acknowledgement to the fault: threshold x interval + timeout, and 0.5 s.
DETECTION = 3 * 1 + 1 + 0.5
#: What "no fault" means: none for this long.
QUIET = DETECTION + 1
#: For what Nova does: emulated guests, two processors, and others that use them.
PATIENCE = 120.0


class Holder(Protocol):
    """Whoever holds the cloud: `tests.cloud.holder.Client`, say."""

    @property
    def site(self) -> Site:
        """Where it is."""

    def ask(self, verb: str, **arguments: Any) -> Any:
        """What only he can do. Raises LabError."""


class Stage:
    """The cloud, as its users, its administrator and another consumer of our notifications see it."""

    def __init__(self, holder: Holder) -> None:
        self.holder = holder
        self.site: Site = holder.site
        self.api: catalogue.Api = catalogue.connect(self.site)
        self.notifications = ConsumerProcess(self.site.transport_url, FAULT_TOPICS[1])
        conf = cfg.ConfigOpts()
        conf([], project="stage", default_config_files=[], default_config_dirs=[])
        self._transport = worker_api.get_transport(conf, self.site.transport_url)
        self.workers, self.consumers = WorkerAPI(self._transport), ConsumerAPI(self._transport)

    def close(self) -> None:
        """End what is the stage's own."""
        self.notifications.close()
        self._transport.cleanup()  # or else it says that the broker is gone, when it is

    def boot(self, name: str, flavor: str = "monitored", image: str = catalogue.PLAIN, node: str = "node1") -> Server:
        """A server that is ACTIVE."""
        asked: dict[str, Any] = {
            "name": name,
            "image_id": self.api.image.find_image(image).id,
            "flavor_id": self.api.compute.find_flavor(flavor).id,
            "networks": "none",
            "host": node,
        }
        began = time.monotonic()
        server = Server(self, str(self.api.compute.create_server(**asked).id), name, began)
        try:
            server.active_at = server.wait("ACTIVE")
        except LabError:
            server.delete()
            raise
        return server

    def use_driver(self, node: str, driver: str) -> None:
        """Restart a node's nova-compute with another compute_driver, and wait until it is at work."""

        def reported() -> object:
            (one,) = self.api.compute.services(binary="nova-compute", host=node)
            return one.updated_at

        self.holder.ask("driver", node=node, driver=driver)
        before = reported()  # the old one has ended, so what comes next is the new one's
        wait_until(lambda: reported() != before, PATIENCE, f"nova-compute of {node} reports", every=0.2)


@dataclass
class Server:
    """One of Nova's, and the guest in it."""

    stage: Stage
    uuid: str
    name: str
    asked_at: float  #: monotonic seconds
    active_at: float = 0.0
    deleted: bool = field(default=False)

    # -- Nova ----------------------------------------------------------------------------------------------------------

    @property
    def now(self) -> Any:
        """As Nova's API shows it."""
        return self.stage.api.compute.get_server(self.uuid)

    @property
    def node(self) -> str:
        """Where it is."""
        return str(self.now.compute_host)

    def wait(self, status: str, timeout: float = PATIENCE) -> float:
        """Until Nova says so and has nothing to do with it any more; when. LabError: not in time, or it is in ERROR."""

        def there() -> bool:
            now = self.now
            if now.status == "ERROR" and status != "ERROR":
                raise LabError(f"{self.name} is in ERROR: {now.fault}")
            return bool(now.status == status and now.task_state is None)

        return wait_until(there, timeout, f"{self.name} is {status}", every=0.2)

    def do(self, deed: Callable[..., object], *arguments: Any, then: str, **named: Any) -> float:
        """One of the API's actions on this server, and the status that it leads to; when that was there."""
        deed(self.uuid, *arguments, **named)
        time.sleep(0.3)  # the API answers before the task has its name
        return self.wait(then)

    def delete(self) -> None:
        """And wait until it is gone."""
        if self.deleted:
            return
        self.deleted = True
        self.stage.api.compute.delete_server(self.uuid, ignore_missing=True)

        def gone() -> bool:
            try:
                return bool(self.now.status == "DELETED")
            except NotFoundException:
                return True

        wait_until(gone, PATIENCE, f"{self.name} is gone", every=0.2)

    def actions(self) -> list[str]:
        """What was done to it, the latest first, in Nova's own words."""
        return [str(one.action) for one in self.stage.api.compute.server_actions(self.uuid)]

    def reports(self) -> list[Any]:
        """Masakari's notifications of it."""
        every = self.stage.api.instance_ha.notifications()
        return [one for one in every if one.payload.get("instance_uuid") == self.uuid]

    # -- its guest -----------------------------------------------------------------------------------------------------

    def run(self, command: str) -> float:
        """Begin a shell command in the guest, through its agent. When it was given to the agent (monotonic seconds).

        The guest may be busy with a heartbeat; then libvirt waits until that is answered.
        """
        self._agent("guest-exec", path="/bin/sh", arg=["-c", command])
        return time.monotonic()

    def deed(self, command: str) -> float:
        """Run a shell command in the guest, through its agent, to its end. When it was asked for, before it began.

        LabError: it failed, or does not end.
        """
        now = self.now  # the API takes its time, which is none of the guest's
        began = time.monotonic()
        pid = self._agent("guest-exec", now, path="/bin/sh", arg=["-c", command])["pid"]
        done: dict[str, Any] = {}

        def ended() -> bool:
            done.update(self._agent("guest-exec-status", now, pid=pid))
            return bool(done["exited"])

        wait_until(ended, PATIENCE, f"{self.name}: {command!r} ends", every=0.1)
        if done.get("exitcode"):
            raise LabError(f"{self.name}: {command!r} ended with {done['exitcode']}")
        return began

    def _agent(self, execute: str, now: Any = None, **arguments: Any) -> Any:
        now = now or self.now
        asked = json.dumps({"execute": execute, "arguments": arguments})
        said = self.virsh("qemu-agent-command", str(now.instance_name), asked, node=str(now.compute_host))
        return json.loads(said)["return"]

    def virsh(self, *arguments: str, node: str | None = None) -> str:
        """One of virsh's commands, on its node."""
        uri = self.stage.site.libvirt_uri(node or self.node)
        done = subprocess.run(
            ["virsh", "-q", "-c", uri, *arguments], check=False, capture_output=True, text=True, timeout=60
        )
        if done.returncode:
            raise LabError(f"virsh {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def hang_agent(self, seconds: float | None = None) -> float:
        """Stop the agent (SIGSTOP), for ever or for so long; the kernel lives. When."""
        then = "" if seconds is None else f"; sleep {seconds:g}; killall -CONT qemu-ga"
        self.run(f"setsid sh -c 'sleep 0.3; killall -STOP qemu-ga{then}' </dev/null >/dev/null 2>&1 &")
        return time.monotonic() + 0.3

    def kill_agent(self) -> float:
        """End the agent, and nobody starts it again; the kernel lives. When."""
        self.run("touch /run/no-agent; setsid sh -c 'sleep 0.3; killall -KILL qemu-ga' </dev/null >/dev/null 2>&1 &")
        return time.monotonic() + 0.3

    def panic(self) -> float:
        """Crash the kernel, which hangs then. When."""
        self.run("setsid sh -c 'sleep 0.3; echo c >/proc/sysrq-trigger' </dev/null >/dev/null 2>&1 &")
        return time.monotonic() + 0.3

    def kill_qemu(self) -> float:
        """SIGKILL; when."""
        now = self.now
        moment = self.stage.holder.ask(
            "qemu", node=str(now.compute_host), domain=self.domain_id(), number=int(signal.SIGKILL)
        )
        return float(moment)

    def domain_id(self) -> str:
        """The name of its domain."""
        return str(self.now.instance_name)

    def last_words(self) -> str:
        """Where it is, and the end of what its guest wrote on its console."""
        try:
            now = self.now
            said = self.stage.api.compute.get_server_console_output(self.uuid, length=20)["output"]
        except SDKException as error:
            return f"{self.name}: {error}"
        return f"{self.name} is {now.status} on {now.compute_host}; its console ends:\n{said}"

    # -- its heartbeats ------------------------------------------------------------------------------------------------

    def show(self, node: str | None = None) -> dict[str, Any]:
        """What the worker of its node knows of it."""
        return self.stage.workers.show(node or self.node, self.uuid) or {}

    def beats(self, node: str | None = None) -> bool:
        """Is it alive to that worker, expected to answer, and has it done so lately?"""
        shown = self.show(node)
        age = shown.get("last_ack_age")
        return shown.get("state") == "alive" and not shown["silences"] and age is not None and age <= FRESH

    def wait_beats(self, timeout: float = PATIENCE) -> float:
        """Until it beats, where it is then; when."""
        try:
            return wait_until(self.beats, timeout, f"{self.name} beats", every=0.2)
        except LabError as error:
            raise LabError(f"{error}; its worker on {self.node} says {self.show()}") from error

    def first_beat(self, timeout: float = PATIENCE) -> Notification:
        """The notification of it."""
        return self.stage.notifications.wait_for(
            f"heartbeat of {self.name}",
            lambda n: n.event_type == "vmhb.heartbeat.established" and n.instance_uuid == self.uuid,
            timeout,
        )

    def faults(self, since: float = 0.0) -> list[str]:
        """What was said of its faults, a line each."""
        return [str(one) for one in self.stage.notifications.faults(self.uuid, since)]

    def assert_quiet(self, since: float, seconds: float = QUIET) -> None:
        """For so long there is no fault of it, nor was one since then."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert self.faults(since) == []
            time.sleep(0.1)
