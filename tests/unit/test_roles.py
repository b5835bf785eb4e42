"""What the Ansible roles write is what our programs want. tests/deploy and tests/rollout run them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from oslo_config import cfg
from oslo_log import log

from vmhb_common.app import command_line
from vmhb_common.conf import check, groups
from vmhb_consumer import faults_half
from vmhb_consumer.cmd import consumer

ROLE = Path(__file__).parent.parent.parent / "deploy/ansible_collections/nova_vmhb/deploy/roles/vmhb_consumer"
KEYSTONE = {
    **{"auth_url": "http://keystone:5000/v3", "username": "vmhb", "password": "s3cret", "project_name": "service"},
    **{"region_name": "north", "timeout": 7},
}


def combine(one: Mapping[str, Any], *others: Mapping[str, Any], recursive: bool = False) -> dict[str, Any]:
    """Ansible's filter of this name."""
    made = dict(one)
    for other in others:
        for key, value in other.items():
            both = recursive and isinstance(value, Mapping) and isinstance(made.get(key), Mapping)
            made[key] = combine(made[key], value, recursive=True) if both else value
    return made


def configured(folder: Path, **variables: Any) -> tuple[cfg.ConfigOpts, list[str]]:
    """The consumer's configuration as the role writes it with these; and what our program finds wrong with it."""
    # Its output is no page of the web.
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701
    environment.filters |= {"combine": combine, "bool": bool}
    template = environment.from_string((ROLE / "templates/consumer.conf.j2").read_text())
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    file = folder / "consumer.conf"
    given = {"vmhb_consumer_transport_url": "rabbit://u:p@127.0.0.1:1/", "ansible_managed": "by a test", **variables}
    file.write_text(template.render(defaults | given))
    program, conf = consumer.complete(), cfg.ConfigOpts()
    log.register_options(conf)
    groups.register(conf, program.groups)
    unknown = command_line.read(program, [f"--config-file={file}"], conf)
    bad = check.bad_values(conf, program.groups) or program.contradictions(conf)
    return conf, [str(problem) for problem in [*unknown, *bad]]


def test_credentials_are_written_once(tmp_path: Path) -> None:
    """Nothing is remarked upon at each start, and what a reporter has beside credentials is told to it all the same."""
    conf, wrong = configured(tmp_path, vmhb_consumer_keystone=KEYSTONE)
    assert wrong == [] and list(faults_half.remarks(conf, ["masakari"])) == []
    assert conf.nova.auth_type == "password"
    assert (conf.reporter_masakari.region_name, conf.reporter_masakari.timeout) == ("north", 7)
    assert "s3cret" not in (tmp_path / "consumer.conf").read_text().partition("[reporter_masakari]")[2]


def test_a_release_of_before_is_told_its_own_way(tmp_path: Path) -> None:
    """It knows no other; and one of these days takes it as well."""
    conf, wrong = configured(tmp_path, vmhb_consumer_keystone=KEYSTONE, vmhb_consumer_keystone_once=False)
    assert wrong == [] and len(list(faults_half.remarks(conf, ["masakari"]))) == 1
    assert conf.reporter_masakari.password == "s3cret"


@pytest.mark.parametrize(
    "variables",
    [
        {"vmhb_consumer_reporters": ["log"], "vmhb_consumer_keystone": KEYSTONE},
        {"vmhb_consumer_reporters": ["log"]},
        {"vmhb_consumer_keystone": {name: KEYSTONE[name] for name in ("auth_url", "username", "password")}},
    ],
    ids=["not asked", "no credentials", "nothing beside"],
)
def test_no_group_where_there_is_nothing_to_say(variables: Mapping[str, Any], tmp_path: Path) -> None:
    """Of a reporter that is not there, or has nothing of its own."""
    configured(tmp_path, **variables)
    assert "[reporter_masakari]" not in (tmp_path / "consumer.conf").read_text()


def test_what_is_yours_goes_before_it(tmp_path: Path) -> None:
    """Another region for Masakari alone, say."""
    yours = {"reporter_masakari": {"region_name": "south", "interface": "public"}}
    conf, wrong = configured(tmp_path, vmhb_consumer_keystone=KEYSTONE, vmhb_consumer_config=yours)
    assert wrong == [] and conf.reporter_masakari.region_name == "south"
    assert conf.nova.username == "vmhb" and conf.reporter_masakari.timeout == 7
