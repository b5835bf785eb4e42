"""Keystone for whoever of ours asks OpenStack's services: one way to say the credentials, and a session made of them.
Knows no service.

They are keystoneauth's own options, in [nova], which needs them anyway, or in the group that a reporter's auth_section
names. A reporter's own group may have them, too, as all did before: deprecated, and all named beforehand, since
keystoneauth's loader would register them as it goes, and no sample would show them.

Redirects are not followed: keystoneauth would send the token along, or even the password, to whoever a proxy names, and
what answers there is not the service that was asked.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from keystoneauth1 import exceptions, loading, session
from oslo_config import cfg

from vmhb_common.app.once import Once
from vmhb_common.conf.types import prose
from vmhb_consumer.reporters import http

LOG = logging.getLogger(__name__)

#: Redirects, whoever met them.
_SAID = Once()
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
    return [_AUTH_SECTION, _AUTH_TYPE, *http.TLS, http.TIMEOUT, *(_optional(found[name]) for name in sorted(found))]


def _optional(opt: cfg.Opt) -> cfg.Opt:
    """Required is only what the chosen auth_type wants, and only of a reporter that is used: `load` says so."""
    one = copy.copy(opt)
    one.required = False
    one.help = f"Deprecated: say it in the group that auth_section names. {opt.help}"
    return one


#: Where the credentials stand that need be said only once.
SHARED = "nova"

_AUTH_SECTION = cfg.StrOpt(
    "auth_section",
    default=SHARED,
    help=prose(
        """
The group that has the credentials: auth_type, auth_url, username and so on, as in other OpenStack services.

By default they are those with which Nova is asked, and need be said only once. Name another group where another user is
to be used here.
"""
    ),
)
_AUTH_TYPE = cfg.StrOpt(
    "auth_type",
    choices=AUTH_TYPES,
    help=prose(
        """
How to authenticate, where it is not as auth_section says. With none, nothing but endpoint_override is needed, and no
token is sent. The others are deprecated here: say them in the group that auth_section names.
"""
    ),
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
            refused = Redirected(str(answer.url), answer.status_code, answer.headers.get("Location", ""))
            # Of one that is met in discovery keystoneauth tells nobody, and goes on with the catalogue's address.
            if _SAID.new(str(refused)):
                LOG.warning("%s", refused)
            raise refused
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
    """The session of a group with these options, as a reporter is handed them. Connects to nothing. Raises ValueError
    where one is missing."""
    conf = getattr(options, "of_keystone", None)
    if conf is None or own(options):
        return _of_its_own(options)
    tls = {"insecure": options.insecure, "cacert": options.cafile, "cert": options.certfile, "key": options.keyfile}
    # That it is not insecure is a word, too, and holds whatever the section says.
    said = {name: value for name, value in tls.items() if value or name == "insecure"}
    return of_section(conf, options.auth_section, {**said, "timeout": options.timeout})


def own(options: Any) -> list[str]:
    """The names of the credentials that stand in a reporter's own group."""
    plugins = (loading.get_auth_plugin_conf_options(one) for one in AUTH_TYPES[:2])  # type: ignore[no-untyped-call,unused-ignore]
    names = dict.fromkeys(["auth_type", *(opt.dest for opts in plugins for opt in opts)])
    return [name for name in names if getattr(options, name, None) is not None]


def of_section(conf: cfg.ConfigOpts, section: str, over: Mapping[str, Any]) -> session.Session:
    """The session of a group with keystoneauth's own options, in which another auth_section may be named. over: instead
    of its options for sessions. Connects to nothing. Raises ValueError."""
    loading.register_auth_conf_options(conf, section)
    loading.register_session_conf_options(conf, section)
    try:
        plugin = loading.load_auth_from_conf_options(conf, section)
        if plugin is None:
            where = conf[section].auth_section or section
            raise ValueError(f"[{where}] auth_type: missing: say auth_type = password there, and what that needs")
        made: session.Session = Loader().load_from_conf_options(conf, section, auth=plugin, **over)
    except (exceptions.ClientException, cfg.Error, TypeError) as error:
        raise ValueError(f"[{section}] makes no sense: {error}") from error
    return made


def _of_its_own(options: Any) -> session.Session:
    auth_type = options.auth_type or AUTH_TYPES[0]
    loader: Any = loading.get_plugin_loader(auth_type)
    try:
        plugin = loader.load_from_options_getter(lambda opt: getattr(options, opt.dest, None))
    except Exception as error:  # keystoneauth's own: options that are missing, or contradict each other
        raise ValueError(f"the credentials do not suffice for auth_type = {auth_type}: {error}") from error
    if auth_type != "none" and not options.auth_url:
        raise ValueError("auth_url is missing: say where Keystone is, http://…:5000/v3")
    return Loader().load_from_options(
        auth=plugin,
        insecure=options.insecure,
        cacert=options.cafile,
        cert=options.certfile,
        key=options.keyfile,
        timeout=options.timeout,
    )
