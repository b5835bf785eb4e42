"""The collection and DevStack's plugin, as those see them who keep such things in order."""

from __future__ import annotations

import pathlib
import subprocess
import tarfile

import pytest
import yaml

from tests.deploy.playing import COLLECTION, environ
from tools.lib.prepare import ROOT

SHELL = ("devstack/plugin.sh", "devstack/settings", "deploy/containers/build")


def _run(*command: object, folder: pathlib.Path, cwd: pathlib.Path = ROOT) -> tuple[int, str]:
    words = [str(word) for word in command]
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=cwd, env=environ(folder))
    return done.returncode, done.stdout + done.stderr


def test_ansible_lint(tmp_path: pathlib.Path) -> None:
    """Clean, with the strictest of its profiles, without a rule left out, and without the network."""
    command = ("ansible-lint", "--offline", "--nocolor", "-q", "--profile", "production", "--project-dir", COLLECTION)
    code, said = _run(*command, folder=tmp_path, cwd=COLLECTION)
    assert (code, said) == (0, "")


def test_it_is_built(tmp_path: pathlib.Path) -> None:
    """As ansible-galaxy expects it, with the files that it shares with the rest of the project in it, and no links."""
    code, said = _run("ansible-galaxy", "collection", "build", COLLECTION, "--output-path", tmp_path, folder=tmp_path)
    assert code == 0, said
    with tarfile.open(next(tmp_path.glob("nova_vmhb-deploy-*.tar.gz"))) as built:
        assert not [member.name for member in built if member.issym() or member.islnk()]
        unit = built.extractfile("roles/vmhb_worker/files/vmhb-worker.service")
        assert unit is not None
        assert unit.read() == (ROOT / "etc/systemd/vmhb-worker.service").read_bytes()


def test_it_needs_no_more_than_debian_has() -> None:
    """Each module that is used, but for Ansible's own, is of a collection that the package `ansible` carries."""
    named = yaml.safe_load((COLLECTION / "galaxy.yml").read_text())["dependencies"]
    debians = pathlib.Path("/usr/lib/python3/dist-packages/ansible_collections")
    used = set()
    for path in COLLECTION.rglob("tasks/*.yml"):
        for task in yaml.safe_load(path.read_text()):
            used |= {key.rpartition(".")[0] for key in task if key.count(".") == 2}
    assert used - {"ansible.builtin"} <= set(named)
    for collection in named:
        assert (debians / collection.replace(".", "/") / "MANIFEST.json").exists()


@pytest.mark.parametrize("script", SHELL)
def test_shellcheck(script: str, tmp_path: pathlib.Path) -> None:
    """Clean. DevStack's own variables come from elsewhere, and settings are read elsewhere."""
    assert _run("shellcheck", "-s", "bash", "-e", "SC2034,SC2154", script, folder=tmp_path) == (0, "")


def test_bashate(tmp_path: pathlib.Path) -> None:
    """As DevStack's own scripts, but for the length of lines; settings begin as others do."""
    assert _run("bashate", "-i", "E005,E006", *SHELL[:2], folder=tmp_path) == (0, "")
