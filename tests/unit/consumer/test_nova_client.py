"""What Nova's answers mean."""

from __future__ import annotations

from typing import Any

import pytest
from keystoneauth1 import exceptions
from oslo_config import cfg

from tests.unit.consumer.fakes import NovaAnswers
from vmhb_common.conf import groups
from vmhb_consumer.conf import nova as options
from vmhb_consumer.doubt_rules import Place, Unknown
from vmhb_consumer.nova_client import HOST, Nova, from_conf
from vmhb_consumer.nova_client import TASK_STATE as TASK
from vmhb_consumer.nova_client import VM_STATE as VM

UUID = "9d1f0e52-8d5a-4d0e-9d62-0f2f8f6f3b21"


@pytest.mark.parametrize(
    ("code", "body", "place"),
    [
        (200, {"server": {HOST: "cn1"}}, Place("cn1")),
        (200, {"server": {HOST: None}}, Place(None)),
        (200, {"server": {HOST: "cn1", VM: "active", TASK: None}}, Place("cn1", vm_state="active")),
        (200, {"server": {HOST: "cn1", VM: "active", TASK: "rebooting"}}, Place("cn1", True, "active", "rebooting")),
        # Whether it is at it, Nova must tell: what is not told is not nothing.
        (200, {"server": {HOST: "cn1", VM: "active"}}, Place("cn1")),
        (200, {"server": {HOST: "cn1", VM: "active", TASK: {}}}, Place("cn1")),
        (200, {"server": {HOST: "cn1", VM: 7, TASK: None}}, Place("cn1")),
        (200, {"server": {HOST: "cn1", "tenant_id": "acme"}}, Place("cn1", project_id="acme")),
        (200, {"server": {HOST: "cn1", "tenant_id": ["acme"]}}, Place("cn1")),
        (404, {"itemNotFound": {"code": 404}}, Place(None, exists=False)),
        (404, None, Unknown("Nova answers 404")),  # a proxy's
        (200, {"server": {}}, Unknown("Nova does not tell the host: the user of [nova] needs the role admin")),
        (200, [], Unknown("Nova answers 200")),
        (503, {}, Unknown("Nova answers 503")),
    ],
)
def test_answers(code: int, body: Any, place: object) -> None:
    """Only Nova's own 404 says that there is no such instance."""
    nova = NovaAnswers((code, body))
    assert Nova(nova)(UUID) == place
    assert nova.asked == [f"/servers/{UUID}"]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (exceptions.Unauthorized("wrong password"), "Keystone refuses us"),
        (exceptions.ConnectFailure("refused"), "Nova does not answer: refused"),
        (RuntimeError(), "Nova does not answer: RuntimeError"),
    ],
)
def test_no_answer(error: Exception, says: str) -> None:
    """Whatever is raised in there is no answer, and the next question may have one."""
    nova = Nova(NovaAnswers(error, (200, {"server": {HOST: "cn1"}})))
    told = nova(UUID)
    assert isinstance(told, Unknown) and says in told.why
    assert nova(UUID) == Place("cn1")


SERVICES = "/os-services?binary=nova-compute"


@pytest.mark.parametrize(
    ("code", "body", "hosts"),
    [
        (200, {"services": [{"host": "cn1"}, {"host": "cn2", "status": "UNKNOWN"}]}, frozenset({"cn1", "cn2"})),
        (200, {"services": [{"host": "cn1"}, {"host": 7}, {}, 7]}, frozenset({"cn1"})),
        (200, {"services": []}, frozenset()),
        (200, {"services": {}}, Unknown("Nova answers 200")),
        (403, {"forbidden": {"message": "policy"}}, Unknown("Nova answers 403")),
        (
            404,
            {"itemNotFound": {}},
            Unknown("Nova does not list its services: the user of [nova] needs the role admin"),
        ),
        (503, {}, Unknown("Nova answers 503")),
        (0, exceptions.ConnectFailure("refused"), Unknown("Nova does not answer: refused")),
    ],
)
def test_which_hosts_there_are(code: int, body: Any, hosts: object) -> None:
    """Those of a cell that is down, too; what is no list tells nothing."""
    nova = NovaAnswers(body if isinstance(body, Exception) else (code, body))
    assert Nova(nova).hosts() == hosts
    assert nova.asked == [SERVICES]


def test_check() -> None:
    """For --check-config: one sentence, or nothing."""
    assert Nova(NovaAnswers((200, {}))).check() is None
    assert "must be allowed" in str(Nova(NovaAnswers((403, {}))).check())
    assert "see to the options of [nova]" in str(Nova(NovaAnswers(exceptions.ConnectFailure("no"))).check())


def conf(**values: object) -> cfg.ConfigOpts:
    """With [nova] as given."""
    one = cfg.ConfigOpts()
    groups.register(one, [options])
    one([], default_config_files=[], default_config_dirs=[])
    for name, value in values.items():
        one.set_override(name, value, group="nova")
    return one


def test_by_the_configuration() -> None:
    """Without auth_type there is nobody to ask; an auth_type that there is not is said."""
    assert from_conf(conf()) is None
    assert isinstance(from_conf(conf(auth_type="none")), Nova)
    with pytest.raises(ValueError, match="makes no sense"):
        from_conf(conf(auth_type="nonsense"))


def test_it_is_nova_that_is_asked_for_in_the_catalogue() -> None:
    """keystoneauth asks for nothing by itself, and then nothing is found."""
    nova = from_conf(conf(auth_type="none"))
    assert nova is not None
    assert (nova._adapter.service_type, nova._adapter.interface) == ("compute", ["internal", "public"])
