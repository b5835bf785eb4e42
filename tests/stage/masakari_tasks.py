"""Our tasks in Masakari's own Python, with a Nova and a worker that answer as told: how each recovery ends.

Run by Masakari's Python. Standard input: a JSON list of cases, see `Case`; standard output: how each ended, as JSON.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Sequence
from typing import Any

from masakari import config, exception
from novaclient import exceptions as nova_exceptions

ERRORS: dict[str, Exception] = {
    "conflict": exception.Conflict(reason="busy"),
    "nova conflict": nova_exceptions.Conflict(409),
    "not found": exception.NotFound(reason="no such instance"),
    "nova not found": nova_exceptions.NotFound(404),
    "forbidden": exception.Forbidden("no"),
    "masakari": exception.MasakariException(reason="timed out"),
    "gateway": nova_exceptions.ClientException(502),
    "error": RuntimeError("a bug"),
}
SERVER: dict[str, Any] = {
    "OS-EXT-STS:vm_state": "active",
    "OS-EXT-STS:task_state": None,
    "OS-EXT-SRV-ATTR:host": "cpt1",
    "id": "uuid",
    "metadata": {"HA_Enabled": "True"},
    "flavor": {"extra_specs": {"hw:heartbeat": "true"}},
}


class Told:
    """Gives each of these in turn, the last one for ever; a text is the error of that name, and raised."""

    def __init__(self, answers: Sequence[Any]) -> None:
        self._answers = list(answers)

    def __call__(self, *_arguments: Any) -> Any:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, str):
            raise ERRORS.get(answer) or masakari_tasks.Unreachable(answer)
        return answer


class Case:
    """shows: what the worker says; servers: what is otherwise than in SERVER, "hidden" where Nova does not tell it;
    asks: what becomes of what Nova is asked to do; event: of the notification, null: there is none to be had."""

    def __init__(
        self,
        task: str,
        shows: Sequence[Any] = ({},),
        servers: Sequence[Any] = ({},),
        asks: Sequence[Any] = (None,),
        event: str | None = "QEMU_GUEST_AGENT_ERROR",
    ) -> None:
        self.task = task
        self.show = Told(shows)
        self._server = Told(servers)
        self._ask = Told(asks)
        self._event = event
        self.asked: list[str] = []
        self.said: list[str] = []

    def get_server(self, *_: Any) -> Any:
        """As Nova's client, and as Masakari's, which has a context besides."""
        changed = self._server()
        values = {name: value for name, value in {**SERVER, **changed}.items() if value != "hidden"}
        return types.SimpleNamespace(**values)

    def stop_server(self, *_: Any) -> None:
        """The same."""
        self.asked.append("stop")
        self._ask()

    def start_server(self, *_: Any) -> None:
        """The same."""
        self.asked.append("start")
        self._ask()

    def reboot(self, *_: Any) -> None:
        """The same."""
        self.asked.append("reboot")
        self._ask()

    def notification(self, _uuid: str) -> Any:
        """Out of Masakari's database."""
        if self._event is None:
            raise RuntimeError("the database is away")
        return types.SimpleNamespace(payload={"event": self._event}, generated_time=None)

    def run(self) -> dict[str, Any]:
        """How it ended, what Nova was asked to do, and what was said last."""
        made = getattr(masakari_tasks, self.task)(None, self)
        made._workers = lambda: types.SimpleNamespace(show=self.show)
        made._notification = self.notification
        servers = types.SimpleNamespace(get=self.get_server, stop=self.stop_server, reboot=self.reboot)
        made._client = lambda: types.SimpleNamespace(servers=servers)
        made.update_details = lambda text, *_: self.said.append(text)
        arguments: Any = {"StopOrRebootTask": ("n",), "StartUnlessRebootedTask": (False,)}.get(self.task, ())
        try:
            ended = f"done {made.execute('uuid', *arguments)}"
        except exception.SkipInstanceRecoveryException:
            ended = "skipped"
        except exception.IgnoreInstanceRecoveryException:
            ended = "ignored"
        except exception.InstanceRecoveryFailureException:
            ended = "failed"
        except Exception as error:
            ended = f"error: {type(error).__name__}"
        return {"ended": ended, "asked": self.asked, "said": self.said[-1] if self.said else ""}


if __name__ == "__main__":
    sys.argv = ["masakari", "--config-file", sys.argv[1]]
    config.parse_args(sys.argv)
    from nova_vmhb import masakari_tasks

    print(json.dumps([Case(**case).run() for case in json.load(sys.stdin)]))
