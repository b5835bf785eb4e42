"""Recovery tasks for Masakari's engine, which loads them by name. Optional: the reporter works with Masakari's own.

They run in the engine's processes, and import nothing of ours. Of a guest that does not answer they

- ask for a hard reboot where the worker says that its kernel or QEMU is dead, rather than wait a minute for a clean
  shutdown that can't come;
- leave an instance alone that is not active, or that something is being done to: whoever stops his machine while the
  report is on its way finds it stopped. Masakari's own tasks start it again;
- are done when the guest answers, not when Nova says active.

Whether it answers is asked of the worker on its host, by RPC, on [vmhb] transport_url of masakari.conf. Other events
are handled as by Masakari's own tasks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import masakari.conf
import oslo_messaging
from masakari import exception, objects
from masakari.compute import nova
from masakari.engine.drivers.taskflow import base, instance_failure
from novaclient import exceptions as nova_exceptions
from oslo_config import cfg
from oslo_log import log as logging
from oslo_utils import strutils

CONF = masakari.conf.CONF
LOG = logging.getLogger(__name__)

OPTS = [
    cfg.StrOpt(
        "transport_url",
        secret=True,
        help="The message broker of the vmhb workers. By default [DEFAULT] transport_url, which is Masakari's own.",
    ),
    cfg.FloatOpt(
        "heartbeat_time",
        default=300.0,
        min=1.0,
        help="How long a guest may take to answer once Nova says that it is active, in seconds; afterwards the "
        "recovery has failed.",
    ),
    cfg.FloatOpt(
        "poll_interval", default=2.0, min=0.1, help="Between two questions whether the guest answers, in seconds."
    ),
]
CONF.register_opts(OPTS, group="vmhb")

#: The report of a guest that does not answer: ours, and the introspective instance monitor's.
SILENT = "QEMU_GUEST_AGENT_ERROR"
#: Causes that no clean shutdown gets an answer from: the kernel, or QEMU, is dead.
DEAD = {"guest_hung", "guest_panicked", "qemu_hung"}
#: How long a worker may take to answer (seconds).
ANSWER_TIME = 6
#: A flavor that asks for heartbeats.
OPT_IN = "hw:heartbeat"


class Unreachable(Exception):
    """No worker answered. The text says why."""


class Workers:
    """RPC to the workers, as `vmhb_common.worker_api` has it. The transport is made with the first call."""

    def __init__(self) -> None:
        self._client: Any = None

    def show(self, host: str, instance_uuid: str) -> dict[str, Any] | None:
        """What the worker on this host knows of the instance; None where it does not watch it."""
        try:
            if self._client is None:
                transport = oslo_messaging.get_rpc_transport(CONF, url=CONF.vmhb.transport_url)
                target = oslo_messaging.Target(exchange="vmhb", topic="vmhb_worker", version="1.0")
                self._client = oslo_messaging.get_rpc_client(transport, target, timeout=ANSWER_TIME, retry=1)
            shown: dict[str, Any] | None = self._client.prepare(server=host).call(
                {}, "show", instance_uuid=instance_uuid
            )
        except oslo_messaging.MessagingException as error:
            raise Unreachable(" ".join(str(error).split())[:200] or type(error).__name__) from error
        return shown


#: One for the process: a transport is a pool of connections.
WORKERS = Workers()


class StopOrRebootTask(instance_failure.StopInstanceTask):
    """`vmhb_stop_or_reboot`, for `pre`. Provides whether it was rebooted."""

    def __init__(self, context: Any, novaclient: Any, **kwargs: Any) -> None:
        super().__init__(context, novaclient, provides="vmhb_rebooted", **kwargs)

    def execute(self, instance_uuid: str, notification_uuid: str) -> bool:
        """Reboot or stop it. Raises what ends the recovery as skipped, ignored or failed."""
        notification = objects.Notification.get_by_uuid(self.context, notification_uuid)
        if notification.payload.get("event") != SILENT:
            super().execute(instance_uuid)
            return False
        server = self.novaclient.get_server(self.context, instance_uuid)
        self._check_that_it_is_wanted(server)
        self._check_that_it_is_left_alone(server)
        if not self._is_dead(server):
            self._on_it(self.novaclient.stop_server, self.context, instance_uuid)
            self.update_details(f"Stopping instance: {instance_uuid}")
            self._wait(server.id, ("stopped",), CONF.wait_period_after_power_off)
            return False
        self.update_details(f"Hard rebooting instance: {instance_uuid}")
        self._on_it(nova.novaclient(self.context).servers.reboot, instance_uuid, "HARD")
        self._wait(server.id, ("active",), CONF.wait_period_after_power_off)
        return True

    def _check_that_it_is_wanted(self, server: Any) -> None:
        """As Masakari's own task."""
        key = CONF.instance_failure.ha_enabled_instance_metadata_key
        if not CONF.instance_failure.process_all_instances and not strutils.bool_from_string(
            server.metadata.get(key, False)
        ):
            self.update_details(f"Skipping recovery for instance: {server.id} as it is not Ha_Enabled", 1.0)
            raise exception.SkipInstanceRecoveryException()

    def _check_that_it_is_left_alone(self, server: Any) -> None:
        """A guest that hangs is active, and nothing is being done to it. Any other is in somebody's hands."""
        vm_state, task_state = getattr(server, "OS-EXT-STS:vm_state"), getattr(server, "OS-EXT-STS:task_state")
        if vm_state != "active" or task_state:
            self._ignore(f"Recovery of instance {server.id} is ignored: {vm_state}, task_state {task_state}")

    def _is_dead(self, server: Any) -> bool:
        """Does the worker say so? Where it can't be asked, a clean shutdown is tried, as Masakari does."""
        try:
            shown = WORKERS.show(getattr(server, "OS-EXT-SRV-ATTR:host"), server.id) or {}
        except Unreachable as error:
            LOG.warning("No worker says what ails instance %s, so it is stopped cleanly: %s", server.id, error)
            return False
        fault = shown.get("fault") or {}
        return fault.get("cause") in DEAD

    def _on_it(self, ask: Callable[..., Any], *arguments: Any) -> None:
        """Ask Nova; that somebody else was quicker is no failure."""
        try:
            ask(*arguments)
        except (exception.Conflict, nova_exceptions.Conflict) as error:
            self._ignore(f"Recovery is ignored, somebody else is at it: {error}")

    def _ignore(self, why: str) -> None:
        LOG.warning(why)
        self.update_details(why, 1.0)
        raise exception.IgnoreInstanceRecoveryException(why)

    def _wait(self, uuid: str, vm_states: tuple[str, ...], seconds: float) -> None:
        def there() -> bool:
            server = self.novaclient.get_server(self.context, uuid)
            return getattr(server, "OS-EXT-STS:vm_state") in vm_states and not getattr(server, "OS-EXT-STS:task_state")

        if not _until(there, seconds, CONF.verify_interval):
            _fail(self, f"Instance {uuid} is not {' or '.join(vm_states)} after {seconds} s")
        self.update_details(f"Instance {uuid} is {' or '.join(vm_states)}", 1.0)


class StartUnlessRebootedTask(instance_failure.StartInstanceTask):
    """`vmhb_start_unless_rebooted`, for `main`."""

    def execute(self, instance_uuid: str, vmhb_rebooted: bool) -> None:
        """Masakari's own, where there is something to start."""
        if vmhb_rebooted:
            self.update_details(f"Instance was rebooted: {instance_uuid}", 1.0)
        else:
            super().execute(instance_uuid)


class ConfirmHeartbeatTask(base.MasakariTask):
    """`vmhb_confirm_heartbeat`, for `post`: waits until the worker says that the guest answers.

    Of an instance that is not monitored there is nothing to confirm.
    """

    def __init__(self, context: Any, novaclient: Any, **kwargs: Any) -> None:
        kwargs["requires"] = ["instance_uuid"]
        super().__init__(context, novaclient, **kwargs)

    def execute(self, instance_uuid: str) -> None:
        """Raises what ends the recovery as failed."""
        server = self.novaclient.get_server(self.context, instance_uuid)
        host, expected = getattr(server, "OS-EXT-SRV-ATTR:host"), _asks_for_heartbeats(server)
        self.update_details(f"Waiting for the heartbeat of instance {instance_uuid} on {host}")
        last = ""

        def answers() -> bool:
            nonlocal last
            try:
                shown = WORKERS.show(host, instance_uuid)
            except Unreachable as error:
                last = f"its worker can't be asked: {error}"
                return not expected
            if shown is None or "error" in shown:
                last = "it is not monitored" if shown is None else f"it is not monitored: {shown['error']}"
                return not expected
            last = str(shown["state"])
            return last == "alive" and not shown.get("fault")

        if not _until(answers, CONF.vmhb.heartbeat_time, CONF.vmhb.poll_interval):
            _fail(self, f"No heartbeat of instance {instance_uuid} after {CONF.vmhb.heartbeat_time} s: {last}")
        self.update_details(f"Heartbeat of instance {instance_uuid}: {last}", 1.0)


def _asks_for_heartbeats(server: Any) -> bool:
    specs = (getattr(server, "flavor", None) or {}).get("extra_specs") or {}
    return bool(strutils.bool_from_string(specs.get(OPT_IN, False)))


def _until(condition: Callable[[], bool], seconds: float, interval: float) -> bool:
    """Poll. The engine's sleep is eventlet's: others run meanwhile."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(interval)
    return True


def _fail(task: Any, why: str) -> None:
    LOG.error(why)
    task.update_details(why, 1.0)
    raise exception.InstanceRecoveryFailureException(message=why)
