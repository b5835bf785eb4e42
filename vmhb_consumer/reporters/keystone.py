"""Keystone for a reporter: credentials as options of its own group, and a session made of them. Knows no service.

keystoneauth's own loader wants the whole configuration, and registers options as it goes. A reporter sees its own group
only, and its sample must show every option: so they are all named beforehand.

Redirects are not followed: keystoneauth would send the token along, or even the password, to whoever a proxy names, and
what answers there is not the service that was asked.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from keystoneauth1 import exceptions, loading, session
from oslo_config import cfg

from vmhb_common.conf.types import prose
from vmhb_consumer.reporters import http

#: What a browser would follow. The others of 3xx tell of something else: 300 of an API's versions.
REDIRECTS = frozenset({301, 302, 303, 305, 307, 308})
#: Characters of an address, in a sentence for people that is itself cut at 300.
SHOWN = 80

#: keystoneauth's names. `none`: no Keystone at all, for a service that does without: a test, or one behind a proxy.
AUTH_TYPES = ("password", "v3applicationcredential", "none")


def options() -> Sequence[cfg.Opt]:
    """All of them. Names and meanings are those that other OpenStack services have."""
    found = {
        opt.dest: opt
        for auth_type in AUTH_TYPES[:2]
        for opt in loading.get_auth_plugin_conf_options(auth_type)  # type: ignore[no-untyped-call,unused-ignore]
    }
    return [_AUTH_TYPE, *http.TLS, http.TIMEOUT, *(_optional(found[name]) for name in sorted(found))]


def _optional(opt: cfg.Opt) -> cfg.Opt:
    """Required is only what the chosen auth_type wants, and only of a reporter that is used: `load` says so."""
    one = copy.copy(opt)
    one.required = False
    return one


_AUTH_TYPE = cfg.StrOpt(
    "auth_type",
    default="password",
    choices=AUTH_TYPES,
    help=prose("How to authenticate. With none, nothing but endpoint_override is needed, and no token is sent."),
)


class Redirected(exceptions.HttpError):
    """Somebody between us and the service would have us ask elsewhere. Where keystoneauth only looks for an API's
    versions, it takes this as any failure, and goes by the address of the catalogue."""

    def __init__(self, asked: str, status: int, where: str) -> None:
        super().__init__(
            f"{asked[:SHOWN]} answers {status} and names {ascii(where)[:SHOWN]}: redirects are not followed; see to "
            "the address in the catalogue, endpoint_override or auth_url",
            http_status=status,
        )


class DirectSession(session.Session):
    """keystoneauth's, that follows no redirect: each is raised as Redirected, whatever the caller wants of errors.

    But for a slash: Nova answers /v2.1 by naming /v2.1/, where its versions are, and web servers do so with a folder.
    The address that is asked then is our own with a slash, never the one that was named.
    """

    def request(self, url: str, method: str, *arguments: Any, **options: Any) -> Any:
        """As there."""
        options["redirect"] = False
        answer = super().request(url, method, *arguments, **options)
        if _wants_a_slash(method, answer):
            answer = super().request(f"{answer.url}/", method, *arguments, **options)
        if answer.status_code in REDIRECTS:
            raise Redirected(str(answer.url), answer.status_code, answer.headers.get("Location", ""))
        return answer


def _wants_a_slash(method: str, answer: Any) -> bool:
    asked, where = urlsplit(str(answer.url)), answer.headers.get("Location", "")
    try:
        path = urlsplit(where).path
    except ValueError:
        return False
    plain = method == "GET" and not asked.query and not asked.fragment
    return plain and answer.status_code in REDIRECTS and path == f"{asked.path}/"


class Loader(loading.session.Session):
    """keystoneauth's, for sessions of this kind."""

    @property
    def plugin_class(self) -> type[session.Session]:
        """As there."""
        return DirectSession


def load(options: Any) -> session.Session:
    """The session of a group with these options. Connects to nothing. Raises ValueError where one is missing."""
    loader: Any = loading.get_plugin_loader(options.auth_type)
    try:
        plugin = loader.load_from_options_getter(lambda opt: getattr(options, opt.dest, None))
    except Exception as error:  # keystoneauth's own: options that are missing, or contradict each other
        raise ValueError(f"the credentials do not suffice for auth_type = {options.auth_type}: {error}") from error
    if options.auth_type != "none" and not options.auth_url:
        raise ValueError("auth_url is missing: say where Keystone is, http://…:5000/v3")
    return Loader().load_from_options(
        auth=plugin,
        insecure=options.insecure,
        cacert=options.cafile,
        cert=options.certfile,
        key=options.keyfile,
        timeout=options.timeout,
    )
