"""[nova]: how Nova's API is reached: keystoneauth's own options, named as in other services."""

from __future__ import annotations

from collections.abc import Sequence

from keystoneauth1 import loading
from oslo_config import cfg

GROUP = "nova"
HELP = (
    "How Nova is asked which host has an instance, with the role admin. Without auth_type Nova is not asked: of "
    "several hosts that have a fault of one instance, the newest raise is believed"
)

#: What Nova's API is called in Keystone's catalogue.
DEFAULTS = {"service_type": "compute", "valid_interfaces": ["internal", "public"]}


def _adapter() -> list[cfg.Opt]:
    """keystoneauth's, which leave to each service what it is."""
    opts: list[cfg.Opt] = loading.get_adapter_conf_options()
    for opt in opts:
        opt.default = DEFAULTS.get(opt.dest, opt.default)
    return opts


OPTS: Sequence[cfg.Opt] = [
    *loading.get_auth_common_conf_options(),
    *loading.get_session_conf_options(),
    *_adapter(),
]
#: Those whose options are known to --check-config, and stand in the sample.
PLUGINS = ("password", "v3applicationcredential")


def list_opts() -> list[tuple[cfg.OptGroup | None, Sequence[cfg.Opt]]]:
    """For oslo-config-generator, and for who asks which names there are."""
    plugins = [opt._to_oslo_opt() for name in PLUGINS for opt in loading.get_plugin_loader(name).get_options()]
    once = {opt.name: opt for opt in [*OPTS, *plugins]}
    return [(cfg.OptGroup(GROUP, title=HELP, help=HELP), list(once.values()))]
