"""A Debian with an OpenStack that somebody else has brought up: its files, made once. `root` boots it.

Nova's and Masakari's own code is in it, in an environment of theirs; in the place of their services something that
reads their configuration as they do, and notes what it finds.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile

from tests.lab import debian
from tests.lab.image import DEFAULT_CACHE, built
from tests.lab.processes import LabError
from tools.lib.prepare import ROOT
from tools.lib.roots import BROKEN, BrokenMirror

PACKAGES = (
    *("dbus", "init", "procps", "python3", "python3-venv", "systemd", "systemd-sysv"),
    *("libvirt-clients", "libvirt-daemon-system", "qemu-system-x86", "qemu-utils"),
)
CONSTRAINTS = ROOT / "constraints-cloud.txt"
#: Where the other tool has put OpenStack.
OPENSTACK = "/opt/openstack"
OTHERS = ("nova", "masakari", "libvirt-python", "pbr", "pymysql", "setuptools", "waitress")
WHEELS, OURS = "/wheels", "/ours"
#: Read as services do, with the files that their units name, and folders by default; then it does nothing, for ever.
STAND_IN = """#!/opt/openstack/bin/python
import importlib, json, os, sys, time
name, file, *more = sys.argv[1:]
project = importlib.import_module(name.partition("-")[0] + ".config")
project.parse_args([name, "--config-file=" + file, *more], configure_db=False, init_rpc=False)
if name == "nova-compute":
    import nova.conf
    conf = nova.conf.CONF
    from oslo_messaging import notify
    conf.register_opts(notify.notifier._notifier_opts, group="oslo_messaging_notifications")
    module, _, driver = conf.compute_driver.rpartition(".")
    told = {"driver": getattr(importlib.import_module("nova.virt." + module), driver).__module__,
            "topics": conf.notifications.versioned_notifications_topics,
            "format": conf.notifications.notification_format,
            "notifies": conf.oslo_messaging_notifications.driver,
            "state": conf.state_path}
else:
    import masakari.conf
    from stevedore import named
    conf = masakari.conf.CONF
    told = {"tasks": conf.taskflow_driver_recovery_flows.instance_failure_recovery_tasks,
            "loads": sorted(named.NamedExtensionManager("masakari.task_flow.tasks",
                ["vmhb_stop_or_reboot", "vmhb_start_unless_rebooted", "vmhb_confirm_heartbeat"]).names())}
with open("/run/" + name + ".json.new", "w") as out:
    json.dump(told, out)
os.rename("/run/" + name + ".json.new", "/run/" + name + ".json")
while True:
    time.sleep(3600)
"""
UNIT = """[Unit]
Description={name}
[Service]
ExecStartPre=/bin/rm -f /run/{name}.json
ExecStart=/usr/local/lib/stand-in {name} {file}
[Install]
WantedBy=multi-user.target
"""
#: Nothing of this machine's hands out control groups below this one's; no policy knows of what runs here.
QEMU_CONF = """user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
"""
SERVICES = {"nova-compute": "/etc/nova/nova.conf", "masakari-engine": "/etc/masakari/masakari.conf"}


def wheels(cache: pathlib.Path = DEFAULT_CACHE) -> pathlib.Path:
    """A folder with a wheel of each thing that the roles, and the other tool, install; but for our own: `ours`."""

    def make(work: pathlib.Path) -> None:
        source = work / "source"
        _copy(source)
        command = [*_pip(), "wheel", "--quiet", "--wheel-dir", work / "out", "-c", CONSTRAINTS]
        _run(*command, f"{source}[worker,consumer,nova]", *OTHERS, "wheel", env={"PBR_VERSION": "0.0.0"})
        for own in (work / "out").glob("nova_vmhb-*"):
            own.unlink()

    wanted = CONSTRAINTS.read_bytes() + (ROOT / "setup.cfg").read_bytes() + repr(OTHERS).encode()
    digest = hashlib.sha256(wanted).hexdigest()[:16]
    return built(cache, f"wheels-{digest}", make)


def ours(folder: pathlib.Path, version: str, commit: str = "") -> None:
    """The project as it is, or as it was, as a wheel of this version."""
    with tempfile.TemporaryDirectory(prefix="vmhb-source-") as scratch:
        source = pathlib.Path(scratch) / "source"
        if commit:
            _run("git", "-C", ROOT, "archive", "-o", f"{scratch}/archive.tar", commit)
            shutil.unpack_archive(f"{scratch}/archive.tar", source)
        else:
            _copy(source)
        command = [*_pip(), "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, source]
        _run(*command, env={"PBR_VERSION": version})


def _copy(source: pathlib.Path) -> None:
    """What a wheel is made of: nothing is built in the project's own folder."""
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "tests", "benchmarks", "build"))


def tree(cache: pathlib.Path = DEFAULT_CACHE) -> pathlib.Path:
    """Debian with OpenStack's environment, never booted."""
    found = wheels(cache)

    def make(work: pathlib.Path) -> None:
        out = work / "out"
        sources = work / "sources.list"
        sources.write_text("".join(f"{row}\n" for row in debian.apt_sources()))
        options = ("--quiet", "--mode=root", "--format=directory", "--variant=essential")
        _run("mmdebstrap", *options, f"--include={','.join(PACKAGES)}", debian.SUITE, out, sources)
        for folder in (WHEELS, OURS):
            (out / folder.lstrip("/")).mkdir()
        inside = ("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", f"--bind-ro={found}:{WHEELS}", "-D", out)
        _run(*inside, "python3", "-m", "venv", OPENSTACK)
        pip = (f"{OPENSTACK}/bin/pip", "install", "--quiet", "--no-index", f"--find-links={WHEELS}", "--no-cache-dir")
        _run(*inside, *pip, *OTHERS)
        _others_install(out)

    recipe = hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()[:8]
    return built(cache, f"deploy-{found.name}-{recipe}", make)


def _others_install(root: pathlib.Path) -> None:
    """Their services, their files, and a group of theirs."""
    stand_in = root / "usr/local/lib/stand-in"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    (root / "etc/libvirt/qemu.conf").write_text(QEMU_CONF)
    rewrite(root, "/var/lib/nova")
    units = root / "etc/systemd/system"
    for name, file in SERVICES.items():
        (units / f"{name}.service").write_text(UNIT.format(name=name, file=file))
        (units / "multi-user.target.wants" / f"{name}.service").symlink_to(f"../{name}.service")
    with open(root / "etc/group", "a") as group:
        group.write("masakari:x:64000:\n")


def rewrite(root: pathlib.Path, state: str) -> None:
    """What Nova's and Masakari's own tool does with their files, each time that it runs: it writes them anew."""
    nova = f"[DEFAULT]\ncompute_driver = libvirt.LibvirtDriver\nstate_path = {state}\n"
    nova += "[oslo_messaging_notifications]\ndriver = noop\n[notifications]\nnotification_format = unversioned\n"
    for file, text in (("nova/nova.conf", nova), ("masakari/masakari.conf", "[DEFAULT]\ndebug = true\n")):
        path = root / "etc" / file
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)


def _pip() -> tuple[str, ...]:
    return (str(ROOT / ".venv/bin/python"), "-m", "pip", "--disable-pip-version-check")


def _run(*command: object, env: dict[str, str] | None = None) -> None:
    words = [str(word) for word in command]
    environ = {**os.environ, **(env or {})}
    done = subprocess.run(words, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ)
    if done.returncode:
        kind = BrokenMirror if words[0] == "mmdebstrap" and BROKEN.search(done.stdout) else LabError
        raise kind(f"{' '.join(words[:4])} … ended with {done.returncode}: {done.stdout[-2000:]}")
