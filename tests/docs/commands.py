"""What runs each command that the documentation shows: a table. tests/docs/test_commands.py fails where one has no row.

To add a command to a page: run it there (`Here`), name the test that does (`ByTest`), or say why none does (`Shown`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ByTest:
    """Another test runs it, or what it stands for: file and function."""

    by: str


@dataclass(frozen=True)
class Shown:
    """Nothing runs it. why: what it would take, or what is checked of it all the same."""

    why: str


@dataclass(frozen=True)
class Here:
    """tests/docs/test_commands.py runs it, in the scene of that name."""

    scene: str


How = ByTest | Shown | Here

MACHINE = Shown("it changes the machine that the tests run on: systemd, users, packages")
FLAVOR = Shown("it takes Keystone and Nova; its properties are checked by test_the_extra_specs_are_ours")
TOOL = Shown("it is what runs the tests, or runs as long as they do; its words are checked by test_the_tools_are_there")
CLOUD = Shown("it takes a cloud that is up: tests/cloud has one, and speaks with it by its APIs")

PLAYBOOK = ByTest("tests/deploy/test_roles.py::test_brought_in")
IMAGE = ByTest("tests/packages/test_image.py::test_the_element")

#: A command, as it stands on its page, and how it is known to work.
COMMANDS: dict[str, How] = {
    # README.rst, contributing.rst, cloud.rst: the project's own tools.
    "tools/demo": ByTest("tests/functional/test_demo.py::test_the_demo"),
    "tools/demo --simulate": ByTest("tests/functional/test_demo.py::test_the_demo"),
    "tools/test": TOOL,
    "tools/test lint unit": TOOL,
    "tools/test docs": TOOL,
    "tools/test nova": TOOL,
    "tools/test nova-33 nova-32": TOOL,
    "tools/test unit -- -k beats": TOOL,
    "tools/test functional -- -k panic": TOOL,
    "tools/test --all": TOOL,
    "tools/test fuzz": TOOL,
    "tools/test mistral": TOOL,
    "tools/test telemetry": TOOL,
    "tools/test vitrage": TOOL,
    "tools/test bounds": TOOL,
    "tools/test cloud": TOOL,
    "tools/test packages": TOOL,
    "tools/test deploy": TOOL,
    "tools/release --home URL": ByTest("tests/unit/test_release.py::test_the_version_is_the_tag"),
    "tools/packages": ByTest("tests/unit/test_system_packages.py::test_what_is_built_is_put_where_it_is_said"),
    "tools/guest-build": ByTest("tests/unit/guest/test_packaging.py::test_the_distribution"),
    "tools/cloud demo": TOOL,
    "tools/cloud up": TOOL,
    "tools/cloud status": TOOL,
    "tools/cloud shell": ByTest("tests/cloud/test_holder.py::test_a_shell"),
    "tools/cloud down": TOOL,
    "tools/cloud compare": ByTest("tests/cloud/test_compare.py::test_a_hang_side_by_side"),
    "openstack server create --flavor monitored --image guest --no-network --wait web-1": CLOUD,
    'PYTHONPATH=. .venv-cloud/bin/python -m pytest tests/cloud/test_operations.py --repetitions-all -k "reboot"': TOOL,
    "VMHB_CRASH_AT=commit.after vmhb-worker --config-file …": ByTest(
        "tests/functional/test_reporting.py::test_killed_between_receiving_and_posting"
    ),
    # Keys of workers and consumers.
    **{
        command: ByTest("tests/unit/common/test_keys.py::test_a_key_s_whole_life")
        for command in (
            "vmhb-keys make /etc/vmhb/worker.key worker:compute-1",
            "vmhb-keys make /etc/vmhb/consumer.key consumer:controller-1",
            "vmhb-keys list /etc/vmhb/senders",
            "vmhb-keys make /etc/vmhb/worker.key.new worker:compute-1",
            "vmhb-keys revoke /etc/vmhb/senders worker:compute-1 OLDKEY",
            "vmhb-keys revoke /etc/vmhb/senders worker:compute-1",
        )
    },
    "vmhb-keys trust /etc/vmhb/senders < lines": ByTest("tests/unit/common/test_keys.py::test_lines_are_typed_in"),
    "chown vmhb /etc/vmhb/consumer.key": MACHINE,
    "mv /etc/vmhb/worker.key.new /etc/vmhb/worker.key": MACHINE,
    # Flavors and images.
    "openstack flavor set m1.ha --property hw:heartbeat=true --property hw:heartbeat_action=recover": FLAVOR,
    "openstack --os-compute-api-version 2.86 flavor set m1.ha --property hw:heartbeat=true "
    "--property hw:heartbeat_interval=5 --property hw:heartbeat_action=recover": FLAVOR,
    "openstack --os-compute-api-version 2.85 flavor set --property hw:heartbeat=true "
    "--property hw:heartbeat_action=alarm FLAVOR": FLAVOR,
    "openstack image set --property hw_qemu_guest_agent=yes IMAGE": CLOUD,
    # With the cloud's own tools.
    "export ANSIBLE_COLLECTIONS_PATH=$PWD/deploy": PLAYBOOK,
    "ansible-playbook -i inventory nova_vmhb.deploy.site --check --diff": PLAYBOOK,
    "ansible-playbook -i inventory nova_vmhb.deploy.site": PLAYBOOK,
    "ansible-galaxy collection build deploy/ansible_collections/nova_vmhb/deploy": ByTest(
        "tests/deploy/test_lint.py::test_it_is_built"
    ),
    "NOVA_VMHB_SOURCE=git+https://… kolla-build --config-file /etc/kolla/kolla-build.conf "
    "--config-file deploy/kolla/kolla-build.conf --docker-dir deploy/kolla/docker "
    "--template-override deploy/kolla/template-overrides.j2 '^nova-' '^masakari-' '^vmhb-' '^nova-vmhb-'": ByTest(
        "tests/deploy/test_kolla.py::test_images"
    ),
    # The worker.
    "apt-get install python3-venv python3-dev libvirt-dev pkg-config gcc git": MACHINE,
    "python3 -m venv /opt/nova-vmhb": Here("installation"),
    "/opt/nova-vmhb/bin/pip install -c constraints.txt '.[worker]'": Here("installation"),
    "/opt/nova-vmhb/bin/pip install --upgrade -c constraints.txt '.[worker]'": Here("installation"),
    "ln -s /opt/nova-vmhb/bin/vmhb-worker /usr/bin/vmhb-worker": Here("installation"),
    "install -D -m 640 etc/vmhb/vmhb-worker.conf.sample /etc/vmhb/vmhb-worker.conf": Here("installation"),
    "install -m 644 etc/systemd/vmhb-worker.service /etc/systemd/system/": Here("installation"),
    "pip install -c https://releases.openstack.org/constraints/upper/2025.2 '.[worker]'": Shown(
        "that server is not reached by tests; `tools/test bounds` installs by the same list, kept in tests/constraints"
    ),
    "vmhb-worker --config-file /etc/vmhb/vmhb-worker.conf --check-config": Here("worker"),
    "systemctl daemon-reload": MACHINE,
    "systemctl enable --now vmhb-worker": MACHINE,
    "systemctl restart vmhb-worker": MACHINE,
    "systemctl disable --now vmhb-worker": MACHINE,
    "rm -r /etc/systemd/system/vmhb-worker.service /usr/bin/vmhb-worker /opt/nova-vmhb /etc/vmhb /var/lib/vmhb": Here(
        "installation"
    ),
    "virsh metadata DOMAIN urn:openstack:vmhb:1 --live --key vmhb "
    "--set \"<heartbeat version='1' interval='5'/>\"": ByTest(
        "tests/functional/test_discovery.py::test_a_change_takes_effect_at_once"
    ),
    "virsh metadata DOMAIN urn:openstack:vmhb:1 --live --remove": ByTest(
        "tests/functional/test_discovery.py::test_a_change_takes_effect_at_once"
    ),
    # The consumer.
    "apt-get install python3-venv git": MACHINE,
    "/opt/nova-vmhb/bin/pip install -c constraints.txt '.[consumer]'": Here("installation"),
    "ln -s /opt/nova-vmhb/bin/nova-vmhb-consumer /opt/nova-vmhb/bin/nova-vmhb-manage "
    "/opt/nova-vmhb/bin/nova-vmhb-status /usr/bin/": Here("installation"),
    "install -D -m 640 etc/vmhb/nova-vmhb-consumer.conf.sample /etc/vmhb/nova-vmhb-consumer.conf": Here("installation"),
    "install -m 644 etc/systemd/nova-vmhb-consumer.service /etc/systemd/system/": Here("installation"),
    "useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin vmhb": MACHINE,
    "chown root:vmhb /etc/vmhb/nova-vmhb-consumer.conf": MACHINE,
    "nova-vmhb-consumer --config-file /etc/vmhb/nova-vmhb-consumer.conf --check-config": Here("consumer"),
    "nova-vmhb-consumer --config-file /etc/vmhb/nova-vmhb-consumer.conf --status": ByTest(
        "tests/functional/test_rights.py::test_nothing_is_left_of_who_asked"
    ),
    "systemctl enable --now nova-vmhb-consumer": MACHINE,
    'nova-vmhb-manage recoveries pause --reason "storage is being moved" --for 2h': Here("button"),
    "nova-vmhb-manage recoveries show": Here("button"),
    "nova-vmhb-manage recoveries resume": Here("button"),
    "nova-vmhb-manage db sync": Here("tables"),
    "nova-vmhb-manage db version": Here("tables"),
    "nova-vmhb-status upgrade check": Here("tables"),
    "nova-vmhb-manage --config-file /etc/vmhb/nova-vmhb-consumer.conf --config-file /root/vmhb-admin.conf "
    "db sync": Here("tables"),
    "nova-vmhb-manage db purge --before 2026-01-31": Here("tables"),
    **dict.fromkeys(
        (
            "mariadb-dump --single-transaction vmhb > vmhb.sql",
            "pg_dump vmhb > vmhb.sql",
            "mariadb vmhb < vmhb.sql",
            "psql --set=ON_ERROR_STOP=1 --single-transaction vmhb < vmhb.sql",
        ),
        ByTest("tests/functional/test_database_upgrade.py::test_backup_and_restore"),
    ),
    "python3 -c \"import sqlite3; sqlite3.connect('/var/lib/vmhb-consumer/nova-vmhb-consumer.sqlite')"
    ".backup(sqlite3.connect('vmhb.sqlite'))\"": ByTest("tests/unit/consumer/test_steps.py::test_a_copy_of_sqlite"),
    'nova-vmhb-manage brake release compute-1 --reason "the storage is back"': ByTest(
        "tests/unit/consumer/test_manage.py::test_the_brake_of_a_host_is_released"
    ),
    "rabbitmqctl import_definitions etc/rabbitmq/vmhb-policies.json": ByTest(
        "tests/functional/test_consumer.py::test_the_policies_bound_our_queues"
    ),
    # Users of the broker.
    **dict.fromkeys(
        (
            "etc/rabbitmq/vmhb-rights -p vmhb-rpc --faults-vhost vmhb-faults consumer",
            "etc/rabbitmq/vmhb-rights -p vmhb-rpc --faults-vhost vmhb-faults worker compute-1",
        ),
        ByTest("tests/functional/test_rights.py::test_a_node_and_the_consumers"),
    ),
    "etc/rabbitmq/vmhb-rights hears-nova": ByTest("tests/functional/test_rights.py::test_who_hears_of_instances"),
    **dict.fromkeys(
        ("etc/rabbitmq/vmhb-rights -p vmhb-rpc caller", "etc/rabbitmq/vmhb-rights -p vmhb-rpc vitrage"),
        ByTest("tests/functional/test_rights.py::test_what_those_who_ask_cannot_do"),
    ),
    # Uninstalled.
    "openstack flavor unset --property hw:heartbeat FLAVOR": CLOUD,
    **dict.fromkeys(
        (
            "rabbitmqctl delete_queue vmhb_instances.info",
            "rabbitmqctl delete_queue vmhb_instances.error",
            "rabbitmqctl delete_user vmhb-compute-1",
            "rabbitmqctl delete_queue vmhb_notifications.info",
            "rabbitmqctl clear_policy vmhb-faults",
        ),
        ByTest("tests/functional/test_rights.py::test_what_is_taken_away"),
    ),
    "systemctl disable --now nova-vmhb-consumer": MACHINE,
    "rm -r /etc/systemd/system/nova-vmhb-consumer.service /etc/vmhb /var/lib/vmhb-consumer": MACHINE,
    "rm -r /usr/bin/nova-vmhb-consumer /usr/bin/nova-vmhb-manage /usr/bin/nova-vmhb-status /opt/nova-vmhb": MACHINE,
    "userdel vmhb": MACHINE,
    **dict.fromkeys(
        (
            "rm -f /lib/udev/rules.d/60-vmhb-guest.rules /lib/tmpfiles.d/vmhb-guest.conf",
            "rm -f /lib/systemd/system/vmhb-guest.service /lib/systemd/system/vmhb-guest-shutdown.service",
            "rm -f /lib/systemd/system/shutdown.target.wants/vmhb-guest-shutdown.service",
        ),
        Here("guest_is_left"),
    ),
    # Backends.
    "openstack workflow create etc/mistral/vmhb_fault.yaml": ByTest("tests/mistral/test_chain.py::test_reporter"),
    "MISTRAL_URL=http://mistral:8989/v2 OS_TOKEN=$(openstack token issue -f value -c id) "
    "etc/mistral/triggers.sh": ByTest("tests/mistral/test_chain.py::test_event_engine"),
    "etc/aodh/alarms.sh http://vnfm:8080/": ByTest("tests/telemetry/test_chain.py::test_direct"),
    "etc/aodh/alarms.sh http://vnfm:8080/ <instance uuid>": ByTest(
        "tests/telemetry/test_chain.py::test_one_instance_and_no_drill"
    ),
    'EVENTS="vitrage.alarm.activate vitrage.alarm.deactivate" etc/aodh/alarms.sh http://vnfm:8080/': ByTest(
        "tests/vitrage/test_chain.py::test_to_aodh"
    ),
    # A reporter of one's own.
    "cp -r etc/reporter ~/my-pager && cd ~/my-pager": Here("reporter"),
    "sed -i s/pager/mypager/g pyproject.toml vmhb_pager.py test_vmhb_pager.py": Here("reporter"),
    "sed -i s/PagerReporter/MypagerReporter/g vmhb_pager.py test_vmhb_pager.py pyproject.toml": Here("reporter"),
    "mv vmhb_pager.py vmhb_mypager.py && mv test_vmhb_pager.py test_vmhb_mypager.py": Here("reporter"),
    # Nova's hooks.
    "pip install '.[nova]'": Shown("the extra is what the environment of tests/nova is made with"),
    "nova-vmhb-driver install": ByTest("tests/nova/test_shim.py::test_the_snippets_of_the_documentation"),
    "COPY dist/nova_vmhb-*.whl /tmp/": ByTest("tests/nova/test_shim.py::test_the_snippets_of_the_documentation"),
    'RUN pip install --no-cache-dir "$(echo /tmp/nova_vmhb-*.whl)[nova]" && nova-vmhb-driver install && '
    "nova-vmhb-driver status": ByTest("tests/nova/test_shim.py::test_the_snippets_of_the_documentation"),
    "nova-vmhb-driver remove": ByTest("tests/nova/test_shim.py::test_install_status_remove"),
    "pip uninstall nova-vmhb": Shown(
        "pip's own; that nova-compute starts without our file is tests/nova/test_shim.py's"
    ),
    # In the guest.
    **dict.fromkeys(
        (
            "install -m 644 60-vmhb-guest.rules /lib/udev/rules.d/",
            "install -m 644 vmhb-guest.service vmhb-guest-shutdown.service /lib/systemd/system/",
            "install -m 644 vmhb-guest.conf /lib/tmpfiles.d/",
            "install -d /etc/vmhb/checks.d /lib/systemd/system/shutdown.target.wants",
            "ln -sf ../vmhb-guest-shutdown.service /lib/systemd/system/shutdown.target.wants/",
        ),
        ByTest("tests/functional/test_guest_systemd.py::test_port_at_boot"),
    ),
    'vmhb-guest maintenance 40m --reason "kernel update"': Here("guest"),
    'vmhb-guest goodbye --reason "being rebuilt"': Here("guest"),
    "vmhb-guest-conformance "
    "/var/lib/libvirt/qemu/channel/target/domain-7-instance-0000002a/org.openstack.vmhb.0": ByTest(
        "tests/functional/test_guest.py::test_conformance"
    ),
    "vmhb-guest-conformance --listen ./port": Here("conformance"),
    # packaging/: the image element.
    "export ELEMENTS_PATH=packaging/diskimage-builder DIB_VMHB_GUEST=$PWD/dist/vmhb-guest_1.0.0_all.deb": IMAGE,
    "disk-image-create -o guest debian-minimal vm vmhb-guest": IMAGE,
}
