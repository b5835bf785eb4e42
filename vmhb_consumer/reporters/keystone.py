"""Keystone for a reporter: credentials as options of its own group, and a session made of them. Knows no service.

keystoneauth's own loader wants the whole configuration, and registers options as it goes. A reporter sees its own group
only, and its sample must show every option: so they are all named beforehand.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from keystoneauth1 import loading, session
from oslo_config import cfg

from vmhb_common.conf.types import prose
from vmhb_consumer.reporters import http

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


def load(options: Any) -> session.Session:
    """The session of a group with these options. Connects to nothing. Raises ValueError where one is missing."""
    loader: Any = loading.get_plugin_loader(options.auth_type)
    try:
        plugin = loader.load_from_options_getter(lambda opt: getattr(options, opt.dest, None))
    except Exception as error:  # keystoneauth's own: options that are missing, or contradict each other
        raise ValueError(f"the credentials do not suffice for auth_type = {options.auth_type}: {error}") from error
    if options.auth_type != "none" and not options.auth_url:
        raise ValueError("auth_url is missing: say where Keystone is, http://…:5000/v3")
    return loading.session.Session().load_from_options(
        auth=plugin,
        insecure=options.insecure,
        cacert=options.cafile,
        cert=options.certfile,
        key=options.keyfile,
        timeout=options.timeout,
    )
