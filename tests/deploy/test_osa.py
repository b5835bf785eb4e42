"""OpenStack-Ansible's variables: our file, and what its own config_template makes of it."""

from __future__ import annotations

import configparser
import pathlib

import pytest
import yaml

from tests.deploy.playing import Ansible
from tools.lib import prepare

ROLE = "- hosts: deployers\n  gather_facts: false\n  roles: [nova_vmhb.deploy.vmhb_osa]\n"
#: As its role os_nova has it.
TEMPLATE = """
- hosts: deployers
  gather_facts: false
  vars_files: ["{{ folder }}/user_nova_vmhb.yml"]
  tasks:
    - config_template:
        src: "{{ folder }}/nova.conf.j2"
        dest: "{{ folder }}/nova.conf"
        config_overrides: "{{ nova_nova_conf_overrides }}"
        config_type: ini
"""
NOVA = """[DEFAULT]
default_ephemeral_format = ext4
[oslo_messaging_notifications]
topics = notifications
driver = noop
"""


@pytest.fixture
def ansible(tmp_path: pathlib.Path) -> Ansible:
    """The deployment host."""
    one = Ansible(tmp_path)
    one.host("deployer", ("deployers",), [], tmp_path / "tmp")
    one.variables = {
        "vmhb_osa_folder": str(tmp_path),
        "folder": str(tmp_path),
        "vmhb_osa_requirement": "nova-vmhb @ https://git.example/nova-vmhb.whl",
    }
    (tmp_path / "role.yml").write_text(ROLE)
    return one


def test_our_variables(ansible: Ansible) -> None:
    """One file of ours; a second run changes nothing; the others stay as they are."""
    own = ansible.folder / "user_variables.yml"
    own.write_text("debug: false\n")
    assert ansible.play(ansible.folder / "role.yml", "--check").failed == ()
    assert not (ansible.folder / "user_nova_vmhb.yml").exists()
    played = ansible.play(
        ansible.folder / "role.yml", vmhb_osa_nova_conf_overrides={"DEFAULT": {"cpu_allocation_ratio": 4}}
    )
    assert (len(played.changed), played.failed) == (1, ())
    said = yaml.safe_load((ansible.folder / "user_nova_vmhb.yml").read_text())
    assert said["nova_nova_conf_overrides"]["DEFAULT"] == {
        "compute_driver": "vmhb.VmhbLibvirtDriver",
        "cpu_allocation_ratio": 4,
    }
    start = said["nova_compute_init_overrides"]["Service"]["ExecStartPre"]
    assert start == "-+{{ nova_bin }}/python -m nova_vmhb.cmd.driver install"
    assert said["nova_user_pip_packages"] == ["nova-vmhb @ https://git.example/nova-vmhb.whl"]
    assert "taskflow_driver_recovery_flows" in said["masakari_masakari_conf_overrides"]
    again = ansible.play(
        ansible.folder / "role.yml", vmhb_osa_nova_conf_overrides={"DEFAULT": {"cpu_allocation_ratio": 4}}
    )
    assert (again.changed, again.failed) == ((), ())
    assert own.read_text() == "debug: false\n"


def test_it_is_not_guessed_where_we_come_from(ansible: Ansible) -> None:
    """PyPI has nothing of ours by that name; somebody else may."""
    del ansible.variables["vmhb_osa_requirement"]
    played = ansible.play(ansible.folder / "role.yml")
    assert len(played.failed) == 1 and "vmhb_osa_requirement is empty" in played.failed[0]
    assert not (ansible.folder / "user_nova_vmhb.yml").exists()


def test_others_that_set_the_same(ansible: Ansible) -> None:
    """Of two files one would win: it says which, and where what stands there goes."""
    (ansible.folder / "user_variables.yml").write_text("debug: false\nnova_nova_conf_overrides:\n  DEFAULT: {}\n")
    played = ansible.play(ansible.folder / "role.yml")
    assert len(played.failed) == 1
    assert "user_variables.yml" in played.failed[0] and "vmhb_osa_nova_conf_overrides" in played.failed[0]
    assert not (ansible.folder / "user_nova_vmhb.yml").exists()


def test_config_template(ansible: Ansible) -> None:
    """What OpenStack-Ansible makes of it: nova.conf, with ours in it and its own."""
    plugin = next(prepare.place(prepare.KOLLA).rglob("action/config_template.py"))
    ansible.environ["ANSIBLE_ACTION_PLUGINS"] = str(plugin.parent)
    assert ansible.play(ansible.folder / "role.yml").failed == ()
    (ansible.folder / "nova.conf.j2").write_text(NOVA)
    (ansible.folder / "template.yml").write_text(TEMPLATE)
    assert ansible.play(ansible.folder / "template.yml").failed == ()
    made = configparser.RawConfigParser(default_section="")
    made.read(ansible.folder / "nova.conf")
    assert made["DEFAULT"]["compute_driver"] == "vmhb.VmhbLibvirtDriver"
    assert made["DEFAULT"]["default_ephemeral_format"] == "ext4"
    assert made["oslo_messaging_notifications"]["driver"] == "messagingv2"
    assert made["notifications"]["versioned_notifications_topics"] == "versioned_notifications,vmhb_instances"
