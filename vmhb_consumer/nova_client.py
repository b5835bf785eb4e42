"""Asks Nova which host has an instance, and whether it is to run there. One request, bounded in time; decides nothing.

The port is a function from an instance's uuid to `Place` or `Unknown`; tests have their own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from keystoneauth1 import exceptions, loading
from oslo_config import cfg

from vmhb_common.model.ids import uuid_of
from vmhb_consumer.doubt_rules import Place, Unknown
from vmhb_consumer.library_errors import first_line
from vmhb_consumer.reporters import answers, keystone

LOG = logging.getLogger(__name__)

T = TypeVar("T")

#: Asks Nova. BLOCKS; raises nothing.
Locate = Callable[[str], Place | Unknown]

#: The same, which hosts have a nova-compute.
ListHosts = Callable[[], "frozenset[str] | Unknown"]

GROUP = "nova"
#: Seconds that one request may take: to connect, and between two pieces of an answer.
TIMEOUT = 5.0
#: Old enough for every Nova that there is; the host is told to administrators from the first on.
HOST = "OS-EXT-SRV-ATTR:host"
#: Since 2.69 the hosts of a cell that is down are listed, too: they are no strangers.
SERVICES, DOWN_CELLS = "/os-services?binary=nova-compute", "2.69"
PROJECT = "tenant_id"
VM_STATE, TASK_STATE = "OS-EXT-STS:vm_state", "OS-EXT-STS:task_state"


def from_conf(conf: cfg.ConfigOpts) -> Nova | None:
    """By [nova]; None where no auth_type is said there. Connects to nothing. Raises ValueError."""
    if not (conf[GROUP].auth_type or conf[GROUP].auth_section):
        return None
    session = keystone.of_section(conf, GROUP, {"timeout": TIMEOUT})
    try:
        adapter = loading.load_adapter_from_conf_options(conf, GROUP, session=session)
    except (exceptions.ClientException, cfg.Error, TypeError) as error:
        raise ValueError(f"[nova] makes no sense: {error}") from error
    return Nova(adapter)


class Nova:
    """Nova's API. adapter: keystoneauth's, of the service type compute. Threads: any."""

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter

    def __call__(self, instance_uuid: str) -> Place | Unknown:
        """BLOCKS for some TIMEOUT."""
        try:  # with an administrator's token: what is asked for must be what it is taken for
            path = f"/servers/{uuid_of(instance_uuid)}"
        except ValueError as error:
            return Unknown(f"Nova is not asked: {error}")
        return self._asked(path, lambda answer: _place(answers.read(answer, "server")))

    def hosts(self) -> frozenset[str] | Unknown:
        """BLOCKS for some TIMEOUT: those on which there is a nova-compute, up or down, enabled or not."""
        return self._asked(
            SERVICES, lambda answer: _hosts(answers.read(answer, "services", list)), microversion=DOWN_CELLS
        )

    def _asked(self, path: str, read: Callable[[Any], T | Unknown], **options: Any) -> T | Unknown:
        try:
            return read(self._adapter.get(path, raise_exc=False, connect_retries=0, **options))
        except exceptions.Unauthorized as error:
            return Unknown(f"Keystone refuses us: {_said(error)}: check the credentials in [nova]")
        except Exception as error:  # whatever requests, urllib3 and a plugin for authentication let through
            return Unknown(f"Nova does not answer: {_said(error)}")

    def check(self) -> str | None:
        """BLOCKS: what is wrong with [nova], or None."""
        try:
            answer = self._adapter.get("/servers?limit=1&all_tenants=1", raise_exc=False, connect_retries=0)
        except Exception as error:
            return f"{_said(error)}: see to the options of [nova]"
        if answer.status_code == 200:
            return None
        return (
            f"Nova answers {answer.status_code}: the user of [nova] must be allowed to see all servers and their hosts"
        )


def _place(meaning: answers.Meaning) -> Place | Unknown:
    match meaning:
        case answers.Absent():
            return Place(None, exists=False)
        case answers.Found(server) if HOST in server:
            # Without a word of its task, what else it says does not tell how it is.
            task = server.get(TASK_STATE, ...)
            state = server.get(VM_STATE) if task is None or _word(task) else None
            whose = _word(server.get(PROJECT))
            return Place(_word(server[HOST]), vm_state=_word(state), task_state=_word(task), project_id=whose)
        case answers.Found():
            return Unknown("Nova does not tell the host: the user of [nova] needs the role admin")
        case answers.Refusal(code, text):
            return Unknown(f"Nova answers {code}: {text[:200]}")
        case answers.Unclear(why, _code):
            return Unknown(f"Nova {why}")


def _hosts(meaning: answers.Meaning) -> frozenset[str] | Unknown:
    match meaning:
        case answers.Found(services):
            names = (_word(one.get("host")) for one in services if isinstance(one, Mapping))
            return frozenset(name for name in names if name is not None)
        case answers.Refusal(code, text):
            return Unknown(f"Nova answers {code}: {text[:200]}")
        case answers.Unclear(why, _code):
            return Unknown(f"Nova {why}")
    return Unknown("Nova does not list its services: the user of [nova] needs the role admin")


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _said(error: Exception) -> str:
    return first_line(error)[:300]
