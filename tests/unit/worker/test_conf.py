"""The options: their defaults and their bounds. The sample is compared in tests/unit/test_samples."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from oslo_config import cfg, types

from tests.fakes import write_config
from vmhb_common.model.policy import KNOBS, HeartbeatPolicy, Kind, parse
from vmhb_worker import conf as options
from vmhb_worker.adapters.libvirt import adapter
from vmhb_worker.conf import policy
from vmhb_worker.settings import Settings


def read(folder: Path, text: str = "") -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    options.register(conf)
    conf(write_config(folder, text), default_config_files=[], default_config_dirs=[])
    return conf


def test_defaults_are_those_of_the_settings(tmp_path: Path) -> None:
    """An empty file gives the defaults that tests and simulation use, so that they are true of production."""
    settings = options.settings(read(tmp_path))
    expected = Settings(host=socket.gethostname())
    assert settings.limits.min_interval == expected.limits.min_interval
    for name in ("host", "state_path", "connection_uri", "agent", "verdict", "notifications"):
        assert getattr(settings, name) == getattr(expected, name)


def test_twelve_of_libvirtds_workers_are_taken_at_most() -> None:
    """Agents' and looks', and one that describes, asks what never blocks, or sees whether libvirtd answers."""
    agent = Settings(host="a").agent
    agents = agent.workers + agent.slow_workers
    assert agents == adapter.AGENT_CALLS
    assert agents + adapter.BLOCKING_LOOKS + 1 <= 12
    assert adapter.UNSURE_LOOKS < adapter.BLOCKING_LOOKS


def test_policy_defaults_are_the_tables(tmp_path: Path) -> None:
    """An empty [policy] changes nothing about what a flavor means."""
    assert parse({}, options.settings(read(tmp_path)).limits).policy == HeartbeatPolicy()


def test_every_knob_is_an_option_with_its_bounds() -> None:
    """[policy] is made from the table of knobs, so a new knob cannot be forgotten. No worker makes a panic device."""
    by_name = {opt.name: opt for opt in policy.OPTS}
    ours = [knob for knob in KNOBS if knob.name != "panic_device"]
    assert set(by_name) == {knob.name for knob in ours} | {"min_interval", "max_maintenance"}
    for knob in ours:
        opt = by_name[knob.name]
        assert opt.default == knob.default
        assert knob.help in (opt.help or "")
        assert knob.extra_spec in (opt.help or "")
        if knob.kind in (Kind.SECONDS, Kind.COUNT):
            assert isinstance(opt.type, types.Number)
            assert (opt.type.min, opt.type.max) == (knob.minimum, knob.maximum)


def test_values_arrive(tmp_path: Path) -> None:
    """What is written is what engine and adapters are handed."""
    settings = options.settings(
        read(
            tmp_path,
            "[DEFAULT]\nhost = node-7\nstate_path = /srv/vmhb\n[libvirt]\nconnection_uri =\n"
            "[policy]\ninterval = 2.5\nthreshold = 5\n[agent]\nexit_settle_time = 0\n[verdict]\nobserve_only = true\n"
            "[vmhb_notifications]\ntopics = vmhb_notifications, vitrage_notifications\n",
        )
    )
    assert settings.host == "node-7"
    assert settings.state_path == Path("/srv/vmhb")
    assert settings.connection_uri == "qemu:///system", "empty means the default, as in Nova"
    assert settings.limits.defaults["interval"] == 2.5
    assert settings.limits.defaults["threshold"] == 5
    assert settings.agent.exit_settle_time == 0.0
    assert settings.verdict.observe_only
    assert settings.notifications.topics == ("vmhb_notifications", "vitrage_notifications")


@pytest.mark.parametrize(
    ("group", "line"),
    [
        ("policy", "interval = 0.1"),
        ("policy", "interval = nan"),
        ("policy", "timeout = inf"),
        ("policy", "timeout ="),
        ("policy", "threshold = 0"),
        ("policy", "threshold = 2.5"),
        ("policy", "grace = -1"),
        ("policy", "grace = soon"),
        ("policy", "channel = telepathy"),
        ("policy", "heartbeat = perhaps"),
        ("policy", "min_interval = 0"),
        ("agent", "workers = 0"),
        ("agent", "slow_workers = 65"),
        ("agent", "exit_settle_time = -0.1"),
        ("verdict", "reminder_interval = 1"),
        ("verdict", "probe_interval = 0"),
        ("DEFAULT", "host = two words"),
        ("DEFAULT", "host = vmhb.#"),
        ("DEFAULT", "host ="),
        ("DEFAULT", f"host = {201 * 'x'}"),
        ("vmhb_notifications", "topics = a b"),
    ],
)
def test_out_of_bounds_is_an_error(tmp_path: Path, group: str, line: str) -> None:
    """A value out of bounds stops the worker at its start: it is never clamped in silence."""
    with pytest.raises(ValueError):
        options.settings(read(tmp_path, f"[{group}]\n{line}\n"))


def test_interval_below_the_operators_own_bound(tmp_path: Path) -> None:
    """A bound above the default interval raises the default, and contradicts an interval that was chosen."""
    settings = options.settings(read(tmp_path, "[policy]\nmin_interval = 30\n"))
    assert parse({}, settings.limits).policy == HeartbeatPolicy(interval=30.0)
    assert not parse({}, settings.limits).warnings
    with pytest.raises(ValueError, match="interval is below min_interval"):
        options.settings(read(tmp_path, "[policy]\nmin_interval = 30\ninterval = 10\n"))
