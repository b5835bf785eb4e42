"""kolla's own tools on what is ours: kolla-build renders our templates and override, set_configs.py reads our
config.json, and kolla-ansible's merge_configs merges what the role has put into its folder of custom configuration."""

from __future__ import annotations

import configparser
import json
import os
import pathlib
import subprocess

import pytest

from tests.deploy import tree
from tests.deploy.playing import COLLECTIONS, Ansible
from tools.lib import prepare
from tools.lib.prepare import ROOT

KOLLA = ROOT / "deploy" / "kolla"
DEBIANS = "/usr/lib/python3/dist-packages"
#: As kolla-ansible has it for nova-compute, in ansible/roles/nova-cell/tasks/config.yml; the first is its own template.
MERGE = """
- hosts: localhost
  gather_facts: false
  tasks:
    - merge_configs:
        sources:
          - "{{ folder }}/nova.conf.j2"
          - "{{ folder }}/config/global.conf"
          - "{{ folder }}/config/nova.conf"
          - "{{ folder }}/config/nova/nova-compute.conf"
        dest: "{{ folder }}/merged.conf"
        mode: "0660"
"""
#: Of the same, what we have something to say about, as it is without ceilometer.
TEMPLATE = """[DEFAULT]
compute_driver = libvirt.LibvirtDriver
[oslo_messaging_notifications]
transport_url = rabbit://openstack:secret@10.0.0.1:5672//
driver = noop
[notifications]
"""


@pytest.fixture(scope="module")
def kolla() -> pathlib.Path:
    """The environment with kolla and kolla-ansible."""
    return prepare.place(prepare.KOLLA)


def _run(*command: object, **environ: str) -> str:
    done = subprocess.run(
        [str(word) for word in command], check=False, capture_output=True, text=True, env={**os.environ, **environ}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_images(kolla: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Ours, and Nova's and Masakari's with what is ours in them, before they give up root."""
    options: list[object] = ["--template-only", "--base", "debian", "--work-dir", tmp_path]
    options += ["--config-file", KOLLA / "kolla-build.conf", "--docker-dir", KOLLA / "docker"]
    options += ["--template-override", KOLLA / "template-overrides.j2"]
    wanted = ("^nova-", "^masakari-", "^vmhb-")
    _run(kolla / "bin/kolla-build", *options, *wanted, NOVA_VMHB_SOURCE="git+https://example.org/nova-vmhb")
    images = {path.parent.name: path.read_text() for path in (tmp_path / "docker").rglob("Dockerfile")}
    assert (
        "pip" in images["vmhb-base"]
        and "'nova-vmhb[worker,consumer] @ git+https://example.org/nova-vmhb'" in images["vmhb-base"]
    )
    assert "/vmhb-base:" in images["vmhb-worker"].splitlines()[0]
    assert "/vmhb-base:" in images["nova-vmhb-consumer"].splitlines()[0]
    assert images["nova-vmhb-consumer"].rstrip().endswith("USER vmhb")
    for name in ("nova-base", "masakari-base"):
        assert "install --no-deps 'git+https://example.org/nova-vmhb'" in images[name]
    compute = images["nova-compute"]
    assert 0 < compute.index("nova-vmhb-driver install") < compute.index("\nUSER nova")
    assert "nova-vmhb" not in images["nova-scheduler"]


@pytest.mark.parametrize(("name", "owner"), [("vmhb-worker", "root"), ("nova-vmhb-consumer", "vmhb")])
def test_set_configs(kolla: pathlib.Path, tmp_path: pathlib.Path, name: str, owner: str) -> None:
    """The container's start puts our files where the command looks for them, and finds nothing amiss afterwards."""
    config = tmp_path / "config"
    config.mkdir()
    (config / "config.json").write_bytes((KOLLA / "config" / name / "config.json").read_bytes())
    (config / "50-ansible.conf").write_text("[DEFAULT]\ndebug = true\n")
    scripts = list(kolla.rglob("kolla/docker/base/set_configs.py"))
    script = (
        "useradd --system vmhb && /opt/openstack/bin/python /kolla/set_configs.py"
        " && /opt/openstack/bin/python /kolla/set_configs.py --check"
        f" && stat -c '%U %a' /etc/vmhb/{name}.conf.d/50-ansible.conf && cat /run_command"
    )
    inside: list[object] = [
        "systemd-nspawn",
        "--quiet",
        "--register=no",
        "--keep-unit",
        "--volatile=overlay",
        "-D",
        tree.tree(),
    ]
    inside += [f"--bind-ro={config}:/var/lib/kolla/config_files", f"--bind-ro={scripts[0].parent}:/kolla"]
    # As the role's unit has it.
    inside += ["--setenv=KOLLA_CONFIG_STRATEGY=COPY_ALWAYS", "--console=pipe"]
    said = _run(*inside, "sh", "-c", script)
    assert said.splitlines()[-2:] == [f"{owner} 600", json.loads((config / "config.json").read_text())["command"]]


def test_merged(kolla: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """kolla's file of nova-compute has our options, and all that the operator had put into his."""
    own = tmp_path / "config/nova/nova-compute.conf"
    own.parent.mkdir(parents=True)
    own.write_text("[DEFAULT]\nreserved_host_memory_mb = 4096\n[workarounds]\nnever_download_image_if_on_rbd = true\n")
    ansible = Ansible(tmp_path)
    ansible.host("deployer", ("deployers",), [], tmp_path / "tmp")
    play = tmp_path / "play.yml"
    role = "- hosts: deployers\n  gather_facts: false\n  roles: [nova_vmhb.deploy.vmhb_kolla]\n"
    play.write_text(role)
    said = {"vmhb_kolla_custom_config": str(tmp_path / "config"), "vmhb_masakari_transport_url": "rabbit://a:b@c/"}
    assert ansible.play(play, "--check", **said).failed == ()
    assert "vmhb" not in own.read_text()
    played = ansible.play(play, **said)
    assert played.failed == () and played.changed
    (tmp_path / "nova.conf.j2").write_text(TEMPLATE)
    (tmp_path / "merge.yml").write_text(MERGE)
    plugins = next(kolla.rglob("kolla-ansible/ansible/action_plugins"))
    environ = {"ANSIBLE_ACTION_PLUGINS": str(plugins), "ANSIBLE_LIBRARY": str(plugins.parent / "library")}
    environ |= {"ANSIBLE_HOME": str(tmp_path / "ansible"), "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg")}
    _run(kolla / "bin/ansible-playbook", "-e", f"folder={tmp_path}", tmp_path / "merge.yml", **environ)
    merged = configparser.RawConfigParser(default_section="")
    merged.read(tmp_path / "merged.conf")
    assert merged["DEFAULT"]["compute_driver"] == "vmhb.VmhbLibvirtDriver"
    assert merged["DEFAULT"]["reserved_host_memory_mb"] == "4096"
    assert merged["oslo_messaging_notifications"]["driver"] == "messagingv2"
    assert merged["oslo_messaging_notifications"]["transport_url"].startswith("rabbit://openstack")
    assert merged["notifications"]["versioned_notifications_topics"] == "versioned_notifications,vmhb_instances"
    assert merged["workarounds"]["never_download_image_if_on_rbd"] == "true"
    assert ansible.play(play, **said).changed == ()


def test_with_kollas_own_ansible(kolla: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The playbook and all roles are read by a later ansible-core, too, which is stricter."""
    (tmp_path / "ansible.cfg").touch()
    environ = {"ANSIBLE_COLLECTIONS_PATH": f"{COLLECTIONS}:{DEBIANS}", "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg")}
    environ |= {"ANSIBLE_HOME": str(tmp_path / "ansible"), "PYTHONPATH": ""}
    command = (kolla / "bin/ansible-playbook", "--syntax-check", "-i", "localhost,", "nova_vmhb.deploy.site")
    assert "playbook: " in _run(*command, **environ)
