"""Images that are built without a registry, and run as the roles' units have it: the worker watches a guest through the
folders that it shares with libvirt, and the consumer begins."""

from __future__ import annotations

import pathlib
import resource
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.deploy import tree
from tests.deploy.playing import Ansible
from tests.lab import debian, metadata
from tests.lab import image as lab_image
from tests.lab.broker import Broker
from tests.lab.guest import Guest
from tests.lab.node import Node
from tests.lab.processes import LabError, wait_until
from tests.stage.consumer import ConsumerProcess
from tools.lib.prepare import ROOT
from tools.lib.roots import BROKEN, BrokenMirror

#: With nothing of this machine's own.
ENGINE = ("--runtime", "runc", "--cgroup-manager", "cgroupfs", "--storage-driver", "vfs", "--events-backend", "none")
#: Less than podman gives by itself: where root may not raise its own limits, nor may what it starts.
PROCESSES = 16384
#: What the worker's unit asks for.
FILES = 65536
#: Renders a unit as the role does, without installing it.
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.include_vars: "{{ role }}/defaults/main.yml"
    - ansible.builtin.include_vars: "{{ role }}/vars/main.yml"
    - ansible.builtin.set_fact: {"vmhb_worker_install_method": "container", "vmhb_consumer_install_method": "container"}
    - ansible.builtin.template: {src: "{{ role }}/templates/container.service.j2", dest: "{{ dest }}", mode: "0644"}
"""


class Engine:
    """podman, with a store of its own."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.options = [
            "--root",
            str(folder / "store"),
            "--runroot",
            str(folder / "run"),
            "--tmpdir",
            str(folder / "tmp"),
        ]
        self.options += ENGINE

    def __call__(self, *words: object, check: bool = True) -> str:
        command = ["podman", *self.options, *map(str, words)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
        if check and done.returncode:
            raise LabError(f"podman {words[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def build(self, role: str) -> str:
        """By deploy/containers/build. The image's name."""
        wheels = self.folder / "wheels"
        if not wheels.exists():
            shutil.copytree(tree.wheels(), wheels)
            tree.ours(wheels, "1.0.0")
            (self.folder / "sources.list").write_text("".join(f"{row}\n" for row in debian.apt_sources()))
        environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.folder)}
        environ |= {"MIRROR": str(self.folder / "sources.list"), "IMAGE": f"localhost/test-{role}"}
        environ |= {"BUILDAH": shlex.join(["buildah", *self.options[:4], "--storage-driver", "vfs"])}
        command = [str(ROOT / "deploy/containers/build"), role, str(wheels)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=900, env=environ)
        if done.returncode and BROKEN.search(done.stderr):
            raise BrokenMirror(done.stderr[-2000:])
        assert done.returncode == 0, done.stdout + done.stderr
        return environ["IMAGE"]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """What is in its store goes with it."""
    one = Engine(tmp_path_factory.mktemp("podman"))
    yield one
    one("rm", "--all", "--force", "--time", "5", check=False)
    one("volume", "rm", "--all", "--force", check=False)
    one("rmi", "--all", "--force", check=False)


def _command(ansible: Ansible, role: str, config: pathlib.Path, **overrides: object) -> list[str]:
    """What the role's unit starts, with the configuration of this folder in the place of the host's."""
    play, unit = ansible.folder / "play.yml", ansible.folder / "unit"
    play.write_text(PLAY)
    where = ROOT / "deploy/ansible_collections/nova_vmhb/deploy/roles" / role
    played = ansible.play(play, role=str(where), dest=str(unit), **overrides)
    assert played.failed == ()
    text = unit.read_text().replace("\\\n", " ").replace("/etc/vmhb:/etc/vmhb", f"{config}:/etc/vmhb")
    start = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    words = shlex.split(start.partition("=")[2])
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= files < FILES:
        words = [word.replace(f"nofile={FILES}:{FILES}", f"nofile={files}:{files}") for word in words]
    more = () if any(word.startswith("nofile=") for word in words) else ("--ulimit", f"nofile={files}:{files}")
    at = words.index("run") + 1
    return [*words[:at], "--ulimit", f"nproc={PROCESSES}:{PROCESSES}", *more, *words[at:]]


@pytest.fixture
def ansible(tmp_path: pathlib.Path) -> Ansible:
    """This machine."""
    one = Ansible(tmp_path)
    one.host("here", ("all_of_it",), [], tmp_path / "tmp")
    return one


def test_the_worker_watches_a_guest(engine: Engine, ansible: Ansible, tmp_path: pathlib.Path) -> None:
    """From inside its container, through libvirt's own folders: the guest's answers, and that they have ended."""
    image = engine.build("worker")
    config = tmp_path / "vmhb"
    (config / "vmhb-worker.conf.d").mkdir(parents=True)
    with Broker() as broker, Node("compute-1") as node:
        url = f"{broker.transport_url}?amqp_durable_queues=true"
        consumer = ConsumerProcess(url)
        (config / "vmhb-worker.conf").write_text(f"[DEFAULT]\nhost = compute-1\ntransport_url = {url}\n")
        guest = Guest(
            node,
            "instance-00000001",
            metadata=[metadata.heartbeat(interval=1, timeout=1, threshold=3)],
            guest_image=lab_image.build(),
        )
        guest.define()
        guest.boot()
        overrides = {
            "vmhb_worker_image": image,
            "vmhb_worker_engine_options": engine.options,
            "vmhb_worker_libvirt_run": str(node.folder / "run"),
            "vmhb_worker_libvirt_folder": str(node.folder / "lib"),
        }
        command = _command(ansible, "vmhb_worker", config, **overrides)
        with open(tmp_path / "worker.log", "wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            consumer.wait_for("first answer", lambda n: n.event_type == "vmhb.heartbeat.established", 120)
            stopped = guest.stop_agent()
            raised = consumer.wait_fault("raised", guest.uuid, 30, since=stopped)
            assert raised.host == "compute-1"
            engine("stop", "--time", "5", "vmhb-worker")
            assert process.wait(timeout=30) == 0
        except BaseException:
            print((tmp_path / "worker.log").read_text(errors="replace")[-4000:])
            raise
        finally:
            engine("rm", "--force", "--time", "2", "vmhb-worker", check=False)
            process.wait(timeout=30)
            consumer.close()


def test_the_consumer_runs_as_nobody(engine: Engine, ansible: Ansible, tmp_path: pathlib.Path) -> None:
    """As a user who can write nothing but its own folder; it reads what belongs to the group of that number."""
    image = engine.build("consumer")
    config = tmp_path / "vmhb"
    (config / "nova-vmhb-consumer.conf.d").mkdir(parents=True)
    with Broker() as broker:
        url = f"{broker.transport_url}?amqp_durable_queues=true"
        file = config / "nova-vmhb-consumer.conf"
        file.write_text(f"[DEFAULT]\ntransport_url = {url}\n[consumer]\nreporters = log\n")
        shutil.chown(file, group=64061)
        file.chmod(0o640)
        for path in (config, *config.parents):
            if path.is_relative_to("/tmp") and path != pathlib.Path("/tmp"):
                path.chmod(0o755)
        overrides = {"vmhb_consumer_image": image, "vmhb_consumer_engine_options": engine.options}
        command = _command(ansible, "vmhb_consumer", config, **overrides)
        with open(tmp_path / "consumer.log", "wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _asked_until_it_answers(engine)
            assert "Uid:\t64061\t64061" in engine("exec", "nova-vmhb-consumer", "cat", "/proc/1/status")
        except BaseException:
            print((tmp_path / "consumer.log").read_text(errors="replace")[-4000:])
            raise
        finally:
            engine("rm", "--force", "--time", "5", "nova-vmhb-consumer", check=False)
            process.wait(timeout=30)


def _asked_until_it_answers(engine: Engine) -> None:
    command = ("exec", "nova-vmhb-consumer", "nova-vmhb-consumer", "--status")

    def answers() -> bool:
        time.sleep(1)
        return engine(*command, check=False).lstrip().startswith("{")

    wait_until(answers, 120, "the consumer answers")
