"""No redirect is followed, by no reporter and not by whoever asks Nova: a token would go to whoever a proxy names."""

from __future__ import annotations

import http.server
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest
import requests
from keystoneauth1 import loading
from oslo_config import cfg

from tests.fakes import a_fault
from vmhb_common.conf import groups
from vmhb_common.model.fault import Change, Fault
from vmhb_consumer.conf import nova as nova_options
from vmhb_consumer.doubt_rules import Place, Unknown
from vmhb_consumer.nova_client import HOST, from_conf
from vmhb_consumer.reporters import keystone, loader
from vmhb_consumer.reporters.base import Case, Later
from vmhb_consumer.reporters.masakari_client import OpenStack
from vmhb_consumer.reporters.testing import Backend, Reply, options_of

REDIRECTS = (301, 302, 303, 307, 308)
NOON = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)
INSTANCE = "9d1f0e52-8d5a-4d0e-9d62-0f2f8f6f3b21"
DEAD = replace(a_fault(), recommended_action="recover", withheld=None, recovery_attempt=1, instance_uuid=INSTANCE)
SHIPPED = {
    name: one for name, one in loader.installed().reporters.items() if one.__module__.startswith("vmhb_consumer.")
}
#: Reporters that speak no HTTP. One that is new speaks it, or stands here.
SPEAK_NONE = {"log", "aodh"}


class Cloud(Backend):
    """Keystone, and all that its catalogue has, at one address. `odd`: how a path that begins like this is answered;
    `exactly`: one that is this."""

    def __init__(self) -> None:
        super().__init__(Reply())
        self.odd: dict[str, Reply] = {}
        self.exactly: dict[str, Reply] = {}
        self.catalogue = {"compute": "compute/v2.1", "instance-ha": "ha/v1", "workflowv2": "workflow/v2"}

    @property
    def auth_url(self) -> str:
        return f"{self.url}identity/v3"

    def _take(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        odd = [reply for path, reply in self.odd.items() if handler.path.startswith(path)]
        usual = odd[0] if odd else self._usual(handler.path)
        self.reply = self.exactly.get(handler.path, usual)
        super()._take(handler)

    def _usual(self, path: str) -> Reply:
        if path.endswith("/auth/tokens"):
            catalog = [
                {
                    "type": kind,
                    "name": kind,
                    "endpoints": [
                        {"interface": interface, "region": "r", "region_id": "r", "id": kind, "url": self.url + where}
                        for interface in ("public", "internal")
                    ],
                }
                for kind, where in self.catalogue.items()
            ]
            token = {"expires_at": "2099-01-01T00:00:00.000000Z", "issued_at": "2026-01-01T00:00:00.000000Z"}
            body = {"token": {**token, "methods": ["password"], "user": {"id": "u", "name": "u"}, "catalog": catalog}}
            return Reply(201, json.dumps(body).encode(), {"X-Subject-Token": "t0k"})
        version = path.rstrip("/").rpartition("/")[2]
        if version in ("v3", "v2.1", "v1"):
            links = [{"rel": "self", "href": f"{self.url}{path.strip('/')}"}]
            told = {"id": version, "status": "CURRENT", "links": links}
            return Reply(200, json.dumps({"version": told}).encode())
        if path.endswith(f"/servers/{INSTANCE}"):
            return Reply(200, json.dumps({"server": {HOST: "cn1"}}).encode())
        return Reply(404, b"{}")


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    one = Cloud()
    with one:
        yield one


@pytest.fixture
def elsewhere() -> Iterator[Backend]:
    """Where nobody is to be sent: it would take anything."""
    with Backend(Reply(200, b'{"server": {}, "notification": {}, "notifications": []}')) as one:
        yield one


def credentials(cloud: Cloud) -> dict[str, Any]:
    domains = {"user_domain_name": "d", "project_domain_name": "d"}
    return {"auth_url": cloud.auth_url, "username": "u", "password": "s3cret", "project_name": "p", **domains}


#: By name: the options, and where its service is asked.
SPEAK: dict[str, tuple[Callable[[Cloud], dict[str, Any]], str]] = {
    "webhook": (lambda cloud: {"url": f"{cloud.url}hook"}, "/hook"),
    "mistral": (lambda cloud: {**credentials(cloud), "workflow": "w"}, "/workflow"),
    "masakari": (credentials, "/ha/v1/notifications"),
}


def delivered(name: str, cloud: Cloud, fault: Fault = DEAD) -> tuple[object, str | None]:
    """The outcome of one fault, and what `check` finds."""
    kind = SHIPPED[name]
    reporter = kind(options_of(kind, timeout=2.0, **SPEAK[name][0](cloud)), lambda: NOON)
    case = Case(change=Change.RAISED, fault=fault, latest=fault, received_at=NOON, attempt=1)
    return reporter.deliver(case), reporter.check()


def test_every_shipped_reporter_is_in_the_table() -> None:
    """One that is new is tried as well, or said to speak no HTTP."""
    assert SPEAK.keys() | SPEAK_NONE == SHIPPED.keys()


@pytest.mark.parametrize("status", REDIRECTS)
@pytest.mark.parametrize("name", SPEAK)
def test_no_reporter_follows_a_redirect(name: str, status: int, cloud: Cloud, elsewhere: Backend) -> None:
    """It is not the service that answers: tried again, and the log names the address, and what to do."""
    cloud.odd[SPEAK[name][1]] = Reply(status, b"<html>moved</html>", {"Location": f"{elsewhere.url}x"})
    outcome, problem = delivered(name, cloud)
    assert not elsewhere.received
    assert isinstance(outcome, Later)
    for said in [outcome.why] + ([problem] if name != "webhook" else []):
        assert said is not None
        assert str(status) in said
        assert elsewhere.url in said
        assert "redirects are not followed" in said
    if name != "webhook":
        assert cloud.url in outcome.why
        assert "endpoint_override" in outcome.why


@pytest.mark.parametrize("status", REDIRECTS)
@pytest.mark.parametrize("name", [name for name in SPEAK if name != "webhook"])
def test_no_password_goes_elsewhere(
    name: str, status: int, cloud: Cloud, elsewhere: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """It is in the request for a token, which a redirect of Keystone's would send on. Once in the log for each address:
    of what it meets in discovery keystoneauth tells nobody."""
    cloud.odd["/identity"] = Reply(status, b"", {"Location": f"{elsewhere.url}v3/auth/tokens"})
    outcome, problem = delivered(name, cloud)
    assert not elsewhere.received
    said = [line for line in caplog.messages if "redirects are not followed" in line and elsewhere.url in line]
    assert said and len(said) == len({*said})
    assert isinstance(outcome, Later)
    assert problem is not None
    assert "redirects are not followed" in outcome.why
    assert "auth_url" in outcome.why
    assert "s3cret" not in outcome.why + problem


def nova(cloud: Cloud) -> Any:
    one = cfg.ConfigOpts()
    groups.register(one, [nova_options])
    one([], default_config_files=[], default_config_dirs=[])
    one.register_opts(loading.get_auth_plugin_conf_options("password"), group="nova")
    for name, value in {"auth_type": "password", **credentials(cloud)}.items():
        one.set_override(name, value, group="nova")
    return from_conf(one)


@pytest.mark.parametrize("status", REDIRECTS)
@pytest.mark.parametrize("path", ["/compute", "/identity"])
def test_whoever_asks_nova_follows_none_either(path: str, status: int, cloud: Cloud, elsewhere: Backend) -> None:
    """Where an instance is stays unknown: its machine is not taken to be elsewhere, or gone."""
    client = nova(cloud)
    assert client(INSTANCE) == Place("cn1")
    client = nova(cloud)
    cloud.odd[path] = Reply(status, b"", {"Location": f"{elsewhere.url}x"})
    told = client(INSTANCE)
    assert isinstance(told, Unknown)
    assert not elsewhere.received
    for said in (told.why, client.check()):
        assert "redirects are not followed" in said
        assert cloud.url in said


def test_a_redirect_of_the_versions_is_no_matter(cloud: Cloud, elsewhere: Backend) -> None:
    """Old APIs redirect /v2.1 to /v2.1/: the catalogue's address is taken as it is."""
    cloud.exactly["/compute/v2.1"] = cloud.exactly["/compute/v2.1/"] = Reply(302, b"", {"Location": elsewhere.url})
    assert nova(cloud)(INSTANCE) == Place("cn1")
    assert not elsewhere.received


@pytest.mark.parametrize("named", ["", "http://127.0.0.1:1", "elsewhere"])
def test_a_slash_is_added_to_our_own_address(named: str, cloud: Cloud, elsewhere: Backend) -> None:
    """Where versions are looked for, by whatever name the service knows itself behind its proxy."""
    where = elsewhere.url.rstrip("/") if named == "elsewhere" else named
    cloud.catalogue["instance-ha"] = "ha"
    links = [{"rel": "self", "href": f"{cloud.url}ha/v1/"}]
    versions = {"versions": [{"id": "v1.0", "status": "CURRENT", "links": links}]}
    cloud.exactly["/ha"] = Reply(302, b"", {"Location": f"{where}/ha/"})
    cloud.exactly["/ha/"] = Reply(300, json.dumps(versions).encode())
    cloud.exactly["/ha/v1/notifications?limit=1"] = Reply(200, b'{"notifications": []}')
    options = options_of(SHIPPED["masakari"], timeout=2.0, **credentials(cloud))
    OpenStack(lambda: keystone.load(options), None, "internal").check(2.0)
    assert [one.path for one in cloud.received if one.path.startswith("/ha")][:2] == ["/ha", "/ha/"]
    assert not elsewhere.received


@pytest.mark.parametrize(
    ("method", "asked", "status", "named", "wants"),
    [
        ("GET", "http://nova/v2.1", 302, "http://nova/v2.1/", True),
        ("GET", "http://nova/v2.1", 301, "/v2.1/", True),
        ("GET", "http://nova", 301, "http://nova/", True),
        ("POST", "http://nova/v2.1", 302, "http://nova/v2.1/", False),
        ("GET", "http://nova/v2.1?limit=1", 302, "http://nova/v2.1/", False),
        ("GET", "http://nova/v2.1", 200, "http://nova/v2.1/", False),
        ("GET", "http://nova/v2.1", 302, "http://nova/login/", False),
        ("GET", "http://nova/v2.1", 302, "", False),
        ("GET", "http://nova/v2.1", 302, "http://[", False),
    ],
)
def test_what_is_no_more_than_a_slash(method: str, asked: str, status: int, named: str, wants: bool) -> None:
    """A request without a body, answered by its own path with a slash."""
    answer = requests.Response()
    answer.url, answer.status_code = asked, status
    answer.headers["Location"] = named
    assert keystone._wants_a_slash(method, answer) is wants


def test_one_slash_is_all(cloud: Cloud) -> None:
    """Whoever wants another one after it leads us around."""
    for slashes in range(10):
        where = f"/ha/v1/notifications/n{'/' * slashes}"
        cloud.exactly[where] = Reply(302, b"", {"Location": f"{where}/"})
    session = keystone.load(options_of(SHIPPED["masakari"], timeout=2.0, **credentials(cloud)))
    with pytest.raises(keystone.Redirected, match="answers 302"):
        session.get(f"{cloud.url}ha/v1/notifications/n", raise_exc=False)
    assert len([one for one in cloud.received if one.path.startswith("/ha")]) == 2


def test_masakari_that_is_redirected_as_a_whole_is_not_there(cloud: Cloud, elsewhere: Backend) -> None:
    """Its versions as well: openstacksdk finds none, and it is tried again later."""
    cloud.odd["/ha"] = Reply(301, b"", {"Location": elsewhere.url})
    outcome, problem = delivered("masakari", cloud)
    assert isinstance(outcome, Later)
    assert problem is not None
    assert not elsewhere.received


def test_an_address_is_shown_in_bounds_and_escaped() -> None:
    """A proxy's words are not ours: they reach the log in one line."""
    error = keystone.Redirected("http://nova/" + "a" * 500, 302, "http://x/\n\u202e" + "b" * 500)
    assert len(str(error)) < 500
    assert str(error).isprintable()
