"""DevStack's plugin, run phase by phase by a bash with stand-ins for DevStack's own functions, which note what they are
asked for. What it writes into our files is read by our own programs."""

from __future__ import annotations

import configparser
import subprocess
from pathlib import Path

import pytest
from oslo_config import cfg
from oslo_log import log

from vmhb_common.app import command_line
from vmhb_common.app.command_line import Program
from vmhb_common.conf import check, groups
from vmhb_consumer.cmd import consumer
from vmhb_worker.cmd import worker

PLUGIN = Path(__file__).parent.parent.parent / "devstack"
#: As stack.sh has it: any command that fails ends the run. Names and arguments are those of DevStack's own.
STUB = r"""
set -o errexit
note() { local IFS=$'\t'; echo "$*" >>"$SAID"; }
define_plugin() { note define_plugin "$@"; }
trueorfalse() { case "${!2:-$1}" in True|true|1) echo True ;; *) echo False ;; esac; }
enable_service() { ENABLED="$ENABLED,$(IFS=,; echo "$*")"; }
is_service_enabled() { [[ ",$ENABLED," == *",$1,"* && ",$DISABLED," != *",$1,"* ]]; }
echo_summary() { note echo_summary "$@"; }
install_package() { note install_package "$@"; }
setup_develop() { note setup_develop "$@"; }
get_python_exec_prefix() { echo "$WORK/bin"; }
get_transport_url() { echo "rabbit://stackrabbit:secret@127.0.0.1:5672/$1"; }
get_notification_url() { get_transport_url "$@"; }
iniset_rpc_backend() { iniset "$2" "${3:-DEFAULT}" transport_url "$(get_transport_url "$4")"; }
database_connection_url() { echo "mysql+pymysql://root:secret@127.0.0.1/$1?charset=utf8"; }
recreate_database() { note recreate_database "$@"; }
create_service_user() { note create_service_user "$@"; }
run_process() { if is_service_enabled "$1"; then note run_process "$@"; fi; }
stop_process() { note stop_process "$@"; }
sudo() { "$@"; }
iniset() {
    python3 - "$@" <<'PYTHON'
import configparser, sys
file, group, option, value = sys.argv[1:]
parser = configparser.RawConfigParser(default_section="")
parser.read(file)
if not parser.has_section(group):
    parser.add_section(group)
parser.set(group, option, value)
with open(file, "w") as out:
    parser.write(out)
PYTHON
}
DEST=$WORK/stack DATA_DIR=$WORK/data STACK_USER=$(id -un) ENABLE_DEBUG_LOG_LEVEL=True
NOVA_CONF=$WORK/nova.conf MASAKARI_CONF=$WORK/masakari.conf VMHB_CONF_DIR=$WORK/vmhb
KEYSTONE_SERVICE_URI=http://127.0.0.1/identity SERVICE_PASSWORD=secret SERVICE_PROJECT_NAME=service
SERVICE_DOMAIN_NAME=Default
source "$PLUGIN/settings"
for phase in "$@"; do
    source "$PLUGIN/plugin.sh" $phase
done
"""
#: A program of ours that notes how it was called.
PROGRAM = '#!/bin/sh\nIFS="\t"\necho "${0##*/}\t$*" >>"$SAID"\n[ "$1" != --help ] || echo "{recoveries,brake,db}"\n'
STACK = ("stack install", "stack post-config", "stack extra", "stack test-config")


class DevStack:
    """A run of it in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        for name in ("nova-vmhb-driver", "nova-vmhb-manage"):
            (folder / "bin" / name).write_text(PROGRAM)
            (folder / "bin" / name).chmod(0o755)

    def run(self, *phases: str, enabled: str, disabled: str = "", **settings: str) -> list[list[str]]:
        """What DevStack, and programs of ours, were asked for."""
        said = self.folder / "said"
        said.write_text("")
        environ = {"WORK": str(self.folder), "PLUGIN": str(PLUGIN), "SAID": str(said), "PATH": "/usr/bin:/bin"}
        environ |= {"ENABLED": enabled, "DISABLED": disabled, **settings}
        done = subprocess.run(
            ["bash", "-c", STUB, "stack", *phases], check=False, env=environ, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
        return [line.split("\t") for line in said.read_text().splitlines() if not line.startswith("echo_summary")]

    def file(self, name: str) -> dict[str, dict[str, str]]:
        """What was written into one."""
        parser = configparser.RawConfigParser(default_section="")
        parser.read(self.folder / name)
        return {group: dict(parser[group]) for group in parser.sections()}


@pytest.fixture
def devstack(tmp_path: Path) -> DevStack:
    """With nothing in it."""
    return DevStack(tmp_path)


ALL = "n-cpu,n-api,mysql,rabbit,masakari-api,masakari-engine"


def _wrong(program: Program, file: Path) -> list[str]:
    """What our program says about this file, before it reaches for anything."""
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    groups.register(conf, program.groups)
    unknown = command_line.read(program, [f"--config-file={file}"], conf)
    bad = check.bad_values(conf, program.groups) or program.contradictions(conf)
    return [str(problem) for problem in [*unknown, *bad]]


def test_all_in_one(devstack: DevStack) -> None:
    """It is installed, Nova and Masakari are told, the tables made, and both services run, in this order."""
    said = devstack.run(*STACK, enabled=ALL)
    folder = devstack.folder
    assert said == [
        ["define_plugin", "nova-vmhb"],
        ["install_package", "libvirt-dev", "pkg-config"],
        ["setup_develop", f"{folder}/stack/nova-vmhb", "worker,consumer,nova"],
        ["nova-vmhb-driver", "install"],
        ["create_service_user", "vmhb", "admin"],
        ["recreate_database", "vmhb"],
        ["nova-vmhb-manage", "--help"],
        ["nova-vmhb-manage", "--config-file", f"{folder}/vmhb/nova-vmhb-consumer.conf", "db", "sync"],
        [
            "run_process",
            "vmhb-worker",
            f"{folder}/bin/vmhb-worker --config-file {folder}/vmhb/vmhb-worker.conf",
            "root",
            "root",
        ],
        [
            "run_process",
            "vmhb-consumer",
            f"{folder}/bin/nova-vmhb-consumer --config-file {folder}/vmhb/nova-vmhb-consumer.conf",
        ],
    ]
    nova = devstack.file("nova.conf")
    assert nova["DEFAULT"]["compute_driver"] == "vmhb.VmhbLibvirtDriver"
    assert nova["notifications"]["versioned_notifications_topics"] == "versioned_notifications,vmhb_instances"
    assert set(devstack.file("masakari.conf")) == {"taskflow_driver_recovery_flows", "vmhb"}


def test_our_programs_take_what_it_writes(devstack: DevStack) -> None:
    """No option is misspelled, and no value is refused."""
    devstack.run(*STACK, enabled=ALL)
    assert _wrong(worker.PROGRAM, devstack.folder / "vmhb/vmhb-worker.conf") == []
    assert _wrong(consumer.complete(), devstack.folder / "vmhb/nova-vmhb-consumer.conf") == []
    written = devstack.file("vmhb/nova-vmhb-consumer.conf")
    assert written["consumer"]["reporters"] == "masakari,log"
    # The credentials once: in a reporter's own group they are remarked upon at each start.
    assert written["nova"]["username"] == "vmhb" and "reporter_masakari" not in written


def test_a_compute_node(devstack: DevStack) -> None:
    """Where the consumer is disabled there is nothing of it: no user, no database, no file."""
    said = devstack.run(*STACK, enabled="n-cpu", disabled="vmhb-consumer")
    assert [row[0] for row in said if row[0] not in ("define_plugin", "install_package", "setup_develop")] == [
        "nova-vmhb-driver",
        "run_process",
    ]
    assert not (devstack.folder / "vmhb/nova-vmhb-consumer.conf").exists()


def test_without_masakari_and_driver(devstack: DevStack) -> None:
    """A stock driver stays what it is, and faults go into the log."""
    said = devstack.run(*STACK, enabled="n-cpu,mysql", VMHB_DRIVER="False")
    assert ["nova-vmhb-driver", "install"] not in said
    assert "DEFAULT" not in devstack.file("nova.conf")
    assert devstack.file("masakari.conf") == {}
    written = devstack.file("vmhb/nova-vmhb-consumer.conf")
    assert written["consumer"]["reporters"] == "log"
    assert "reporter_masakari" not in written


def test_disabled(devstack: DevStack) -> None:
    """Where both services are disabled, no phase does anything."""
    said = devstack.run(*STACK, "unstack", "clean", enabled=ALL, disabled="vmhb-worker,vmhb-consumer")
    assert said == [["define_plugin", "nova-vmhb"]]


def test_unstack_and_clean(devstack: DevStack) -> None:
    """Both services end; afterwards nothing of ours is left, in Nova's folders neither."""
    devstack.run(*STACK, enabled=ALL)
    said = devstack.run("unstack", "clean", enabled=ALL)
    assert said[1:] == [
        ["stop_process", "vmhb-worker"],
        ["stop_process", "vmhb-consumer"],
        ["nova-vmhb-driver", "remove"],
    ]
    assert not (devstack.folder / "vmhb").exists()
    assert not list((devstack.folder / "data").iterdir())
