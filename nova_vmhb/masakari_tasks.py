"""Recovery tasks for Masakari's engine, which loads them by name. Optional: the reporter works with Masakari's own.

They run in the engine's processes, and import nothing of ours but `last_moment`, which decides. Of a guest that does
not answer they

- ask its worker at the last moment whether that is still so, and leave alone whoever has answered meanwhile;
- ask for a hard reboot where the worker says that its kernel or QEMU is dead, rather than wait a minute for a clean
  shutdown that can't come;
- leave an instance alone that is not active, or that something is being done to: whoever stops his machine while the
  report is on its way finds it stopped. Masakari's own tasks start it again;
- are done when the guest answers, not when Nova says active.

The worker on its host is asked by RPC, on [vmhb] transport_url of masakari.conf. What nobody knows, after a while of
asking, ends as *ignored*: an error would have Masakari repeat the recovery of a guest of which nothing is known. Other
events are handled as by Masakari's own tasks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

import masakari.conf
import oslo_messaging
from masakari import exception, objects
from masakari.compute import nova
from masakari.engine.drivers.taskflow import base, instance_failure
from novaclient import exceptions as nova_exceptions
from oslo_config import cfg
from oslo_log import log as logging
from oslo_utils import strutils, timeutils

from nova_vmhb import last_moment
from nova_vmhb.last_moment import Deed, Heard, Step

CONF = masakari.conf.CONF
LOG = logging.getLogger(__name__)

OPTS = [
    cfg.StrOpt(
        "transport_url",
        secret=True,
        help="The message broker of the vmhb workers. By default [DEFAULT] transport_url, which is Masakari's own.",
    ),
    cfg.FloatOpt(
        "unknown_time",
        default=30.0,
        min=0.0,
        help="How long Nova and the worker are asked again where it is not known whether a guest still needs its "
        "recovery, in seconds; afterwards it is ignored, and its fault asks for the next one. Also how long Nova is "
        "asked again to start what was stopped.",
    ),
    cfg.FloatOpt(
        "heartbeat_time",
        default=300.0,
        min=1.0,
        help="How long a guest may take to answer once Nova says that it is active, in seconds; afterwards the "
        "recovery has failed; where nobody can say, it is ignored.",
    ),
    cfg.FloatOpt(
        "poll_interval", default=2.0, min=0.1, help="Between two questions whether the guest answers, in seconds."
    ),
]
CONF.register_opts(OPTS, group="vmhb")

#: The report of a guest that does not answer: ours, and the introspective instance monitor's.
SILENT = "QEMU_GUEST_AGENT_ERROR"
#: How long a worker may take to answer (seconds), and the whole of a question to it: oslo.messaging's first call waits
#: for a broker that is away, for ever.
ANSWER_TIME = 6
LIMIT = 10.0
#: Questions that wait for a broker at a time, at most.
WAITING = 32
#: Of a server, as Nova shows it.
HOST, VM_STATE, TASK_STATE = "OS-EXT-SRV-ATTR:host", "OS-EXT-STS:vm_state", "OS-EXT-STS:task_state"
#: A flavor that asks for heartbeats.
OPT_IN = "hw:heartbeat"


class Unreachable(Exception):
    """No worker answered. The text says why."""


class Workers:
    """RPC to the workers, as `vmhb_common.worker_api` has it. The transport is made with the first call. Any thread."""

    def __init__(self) -> None:
        self._client: Any = None
        self._making = threading.Lock()
        self._waiting = threading.BoundedSemaphore(WAITING)

    def show(self, host: str, instance_uuid: str) -> Any:
        """What the worker on this host says of the instance. BLOCKS for LIMIT at most. Raises Unreachable."""
        if not self._waiting.acquire(blocking=False):
            raise Unreachable(f"{WAITING} questions wait for the broker already: is it away?")
        done = threading.Event()
        answers: list[Any] = []
        errors: list[Exception] = []

        def ask() -> None:
            try:
                answers.append(self._call(host, instance_uuid))
            except Exception as error:  # oslo.messaging lets through whatever amqp, kombu and a wrong URL raise
                errors.append(error)
            finally:
                self._waiting.release()
                done.set()

        threading.Thread(target=ask, name="vmhb-show", daemon=True).start()
        if not done.wait(LIMIT):
            raise Unreachable(f"no answer within {LIMIT:g} s: is the broker away?")
        for error in errors:
            raise Unreachable(_said(error)) from error
        return answers[0]

    def _call(self, host: str, instance_uuid: str) -> Any:
        with self._making:
            if self._client is None:
                transport = oslo_messaging.get_rpc_transport(CONF, url=CONF.vmhb.transport_url)
                target = oslo_messaging.Target(exchange="vmhb", topic="vmhb_worker", version="1.0")
                self._client = oslo_messaging.get_rpc_client(transport, target, timeout=ANSWER_TIME, retry=1)
        return self._client.prepare(server=host).call({}, "show", instance_uuid=instance_uuid)


#: One for the process: a transport is a pool of connections.
WORKERS = Workers()


class StopOrRebootTask(instance_failure.StopInstanceTask):
    """`vmhb_stop_or_reboot`, for `pre`. Provides whether it was rebooted.

    Who answers between its worker's last word and Nova's power-off is stopped all the same, so nothing else is done in
    between: Nova's client has its token by then, and what is done is noted afterwards.
    """

    def __init__(self, context: Any, novaclient: Any, **kwargs: Any) -> None:
        super().__init__(context, novaclient, provides="vmhb_rebooted", **kwargs)
        self._nova: Any = None  # Masakari's own makes a new one, and fetches a token, for each request
        self._server: Any = None
        self._fault_id: str | None = None

    def execute(self, instance_uuid: str, notification_uuid: str) -> bool:
        """Reboot or stop it. Raises what ends the recovery as skipped, ignored or failed: failed only where Nova was
        asked for something, and did not do it."""
        try:
            notification = self._notification(notification_uuid)
        except Exception as error:
            self._ignore(
                f"Recovery of instance {instance_uuid} is ignored, its notification can't be read: {_said(error)}"
            )
        if notification.payload.get("event") != SILENT:
            super().execute(instance_uuid)
            return False
        step = last_moment.insist(
            lambda: self._ask(instance_uuid, notification),
            *(_seconds("unknown_time"), _seconds("poll_interval"), time.monotonic, time.sleep),
        )
        if step.deed is Deed.REBOOT:
            heard = self._on_it(lambda: self._nova.servers.reboot(instance_uuid, "HARD"))
            self.update_details(f"Hard rebooting instance: {instance_uuid}, {step.why}")
            if not heard and not self._is_rebooting(instance_uuid):
                _fail(self, f"Nova did not take the hard reboot of instance {instance_uuid}")
            self._wait(instance_uuid, ("active",), CONF.wait_period_after_power_off)
            return True
        if step.deed is Deed.STOP or (step.deed is Deed.UNWATCHED and _asks_for_heartbeats(self._server) is False):
            self._on_it(lambda: self._nova.servers.stop(instance_uuid))
            self.update_details(f"Stopping instance: {instance_uuid}, {step.why}")
            self._wait(instance_uuid, ("stopped",), CONF.wait_period_after_power_off)
            return False
        self._ignore(f"Recovery of instance {instance_uuid} is ignored: {step.why}")

    def _notification(self, notification_uuid: str) -> Any:
        return objects.Notification.get_by_uuid(self.context, notification_uuid)

    def _workers(self) -> Workers:
        return WORKERS

    def _client(self) -> Any:
        return nova.novaclient(self.context)

    def _ask(self, instance_uuid: str, notification: Any) -> Step:
        """Nova, and then the worker: what it says is what is acted on, at once."""
        try:
            self._nova = self._nova or self._client()
            self._server = self._nova.servers.get(instance_uuid)
            self._check_that_it_is_wanted(self._server)
            self._check_that_it_is_left_alone(self._server)
            host = getattr(self._server, HOST)
        except (exception.SkipInstanceRecoveryException, exception.IgnoreInstanceRecoveryException):
            raise
        except Exception as error:  # also an attribute that Nova does not tell the engine's user
            self._nova = None
            return last_moment.unknown(f"Nova can't be asked: {_said(error)}")
        if not host:
            return last_moment.unknown("Nova has it on no host")
        try:
            shown = self._workers().show(host, instance_uuid)
        except Unreachable as error:
            return last_moment.unknown(f"its worker on {host} can't be asked: {error}")
        step = last_moment.judge(shown, _age(notification), self._fault_id)
        self._fault_id = step.fault_id or self._fault_id
        return step

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
        vm_state, task_state = getattr(server, VM_STATE), getattr(server, TASK_STATE)
        if vm_state != "active" or task_state:
            self._ignore(f"Recovery of instance {server.id} is ignored: {vm_state}, task_state {task_state}")

    def _is_rebooting(self, instance_uuid: str) -> bool:
        """Active it was before: only its task tells."""
        try:
            server = self.novaclient.get_server(self.context, instance_uuid)
            return str(getattr(server, TASK_STATE)).startswith("reboot")
        except Exception as error:
            LOG.warning("Nova can't be asked whether it reboots instance %s: %s", instance_uuid, _said(error))
            return False

    def _on_it(self, ask: Callable[[], Any]) -> bool:
        """Ask Nova; False: whether it has heard is not known, and it may be at it. That somebody else was quicker is no
        failure."""
        try:
            ask()
            return True
        except (exception.Conflict, nova_exceptions.Conflict) as error:
            self._ignore(f"Recovery is ignored, somebody else is at it: {_said(error)}")
        except (exception.NotFound, nova_exceptions.NotFound) as error:
            self._ignore(f"Recovery is ignored, Nova has no such instance: {_said(error)}")
        except Exception as error:
            LOG.warning("Nova may not have heard: %s", _said(error))
            return False

    def _ignore(self, why: str) -> NoReturn:
        LOG.warning(why)
        self.update_details(why, 1.0)
        raise exception.IgnoreInstanceRecoveryException(why)

    def _wait(self, uuid: str, vm_states: tuple[str, ...], seconds: float) -> None:
        last = ""

        def there() -> bool:
            nonlocal last
            try:
                server = self.novaclient.get_server(self.context, uuid)
                last = f"{getattr(server, VM_STATE)}, task_state {getattr(server, TASK_STATE)}"
                return getattr(server, VM_STATE) in vm_states and not getattr(server, TASK_STATE)
            except Exception as error:  # the next look may tell
                last = f"Nova can't be asked: {_said(error)}"
                return False

        if not _until(there, seconds, CONF.verify_interval):
            _fail(self, f"Instance {uuid} is not {' or '.join(vm_states)} after {seconds} s: {last}")
        self.update_details(f"Instance {uuid} is {' or '.join(vm_states)}", 1.0)


class StartUnlessRebootedTask(instance_failure.StartInstanceTask):
    """`vmhb_start_unless_rebooted`, for `main`."""

    def execute(self, instance_uuid: str, vmhb_rebooted: bool) -> None:
        """Masakari's own, where there is something to start. What was stopped for its recovery must not stay so because
        Nova was away for a moment: it is asked again for a while."""
        if vmhb_rebooted:
            self.update_details(f"Instance was rebooted: {instance_uuid}", 1.0)
            return
        end = time.monotonic() + _seconds("unknown_time")
        asked = False
        while True:
            try:
                if asked and self._is_on_its_way(instance_uuid):
                    return
                asked = True
                super().execute(instance_uuid)
                return
            except exception.InstanceRecoveryFailureException:
                raise
            except Exception as error:
                if time.monotonic() >= end:
                    raise
                self.update_details(f"Instance {instance_uuid} is not started yet: {_said(error)}")
            time.sleep(_seconds("poll_interval"))

    def _is_on_its_way(self, instance_uuid: str) -> bool:
        """Nova may have heard, though we were not told so."""
        server = self.novaclient.get_server(self.context, instance_uuid)
        return bool(getattr(server, VM_STATE) == "active" or getattr(server, TASK_STATE) == "powering-on")


class ConfirmHeartbeatTask(base.MasakariTask):
    """`vmhb_confirm_heartbeat`, for `post`: waits until the worker says that the guest answers.

    Of an instance that is not monitored there is nothing to confirm.
    """

    def __init__(self, context: Any, novaclient: Any, **kwargs: Any) -> None:
        kwargs["requires"] = ["instance_uuid"]
        super().__init__(context, novaclient, **kwargs)
        self._server: Any = None

    def execute(self, instance_uuid: str) -> None:
        """Raises what ends the recovery as failed, where the guest is known not to answer, or ignored, where nobody
        knows."""
        self.update_details(f"Waiting for the heartbeat of instance {instance_uuid}")
        heard, last = Heard.UNKNOWN, ""

        def over() -> bool:
            nonlocal heard, last
            heard, last = self._ask(instance_uuid)
            return heard is Heard.ANSWERS or (
                heard is not Heard.NOT_YET and self._server is not None and _asks_for_heartbeats(self._server) is False
            )

        patience = _seconds("heartbeat_time")
        if not _until(over, patience, _seconds("poll_interval")):
            why = f"No heartbeat of instance {instance_uuid} after {patience} s: {last}"
            if heard is Heard.NOT_YET:
                _fail(self, why)
            LOG.warning("%s: whether it was recovered is not known", why)
            self.update_details(f"{why}: whether it was recovered is not known", 1.0)
            raise exception.IgnoreInstanceRecoveryException(why)
        self.update_details(f"Heartbeat of instance {instance_uuid}: {last}", 1.0)

    def _workers(self) -> Workers:
        return WORKERS

    def _ask(self, instance_uuid: str) -> tuple[Heard, str]:
        try:
            self._server = self._server or self.novaclient.get_server(self.context, instance_uuid)
            host = getattr(self._server, HOST)
        except Exception as error:
            return Heard.UNKNOWN, f"Nova can't be asked for its host: {_said(error)}"
        if not host:
            return Heard.UNKNOWN, "Nova has it on no host"
        try:
            return last_moment.confirm(self._workers().show(host, instance_uuid))
        except Unreachable as error:
            return Heard.UNKNOWN, f"its worker on {host} can't be asked: {error}"


def _asks_for_heartbeats(server: Any) -> bool | None:
    """By its flavor; None where Nova does not tell."""
    flavor = getattr(server, "flavor", None)
    specs = flavor.get("extra_specs") if isinstance(flavor, dict) else None
    return bool(strutils.bool_from_string(specs.get(OPT_IN, False))) if isinstance(specs, dict) else None


def _age(notification: Any) -> float | None:
    """How many seconds ago it was reported; None where it does not say so."""
    try:
        return float(timeutils.delta_seconds(notification.generated_time, timeutils.utcnow(with_timezone=True)))
    except Exception:
        return None


def _seconds(option: str) -> float:
    """An option of [vmhb]. One that makes no sense must not end a recovery in the middle."""
    try:
        return float(CONF.vmhb[option])
    except Exception as error:
        default = next(float(one.default) for one in OPTS if one.name == option)
        LOG.error("[vmhb] %s of masakari.conf makes no sense, %g s is taken: %s", option, default, _said(error))
        return default


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _until(condition: Callable[[], bool], seconds: float, interval: float) -> bool:
    """Poll. The engine's sleep is eventlet's: others run meanwhile."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(interval)
    return True


def _fail(task: Any, why: str) -> NoReturn:
    LOG.error(why)
    task.update_details(why, 1.0)
    raise exception.InstanceRecoveryFailureException(message=why)
