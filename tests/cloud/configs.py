"""The configuration files of all services, from a `Site`. Decides what is in them; `write` alone touches the disk.

What is unusual has its reason beside it. Nearly all of it is there to make a cloud of one machine start and end fast.
"""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Mapping

from tests.cloud.site import BIN, NODES, PASSWORD, PREFIX, REGION, Site

Config = Mapping[str, Mapping[str, object]]

#: Where our own parts are told to send, and Nova to send to.
OUR_TOPIC = "vmhb_instances"
#: The first is read by nova-vmhb-consumer, the second by whoever else wants to know: here, tests and demo.
FAULT_TOPICS = ("vmhb_notifications", "vmhb_cloud")
DATABASE = {"max_pool_size": 10}
RABBIT = {"rabbit_retry_interval": 1, "kombu_reconnect_delay": 0.5, "heartbeat_timeout_threshold": 60}


def auth(site: Site, user: str) -> dict[str, object]:
    """How a service says who it is."""
    return {
        "auth_type": "password",
        "auth_url": site.auth_url,
        "username": user,
        "password": PASSWORD,
        "project_name": "service",
        "user_domain_id": "default",
        "project_domain_id": "default",
        "region_name": REGION,
        "valid_interfaces": "public",
    }


def _authtoken(site: Site, user: str) -> dict[str, object]:
    return {**auth(site, user), "www_authenticate_uri": site.auth_url, "service_token_roles_required": True}


def keystone(site: Site) -> Config:
    """Of keystone."""
    return {
        "DEFAULT": {"log_file": site.log / "keystone.log", "public_endpoint": site.url("keystone")},
        "database": {"connection": site.sql("keystone"), **DATABASE},
        "token": {"provider": "fernet"},
        "fernet_tokens": {"key_repository": site.etc / "keystone/fernet-keys"},
        "credential": {"key_repository": site.etc / "keystone/credential-keys"},
        "identity": {"password_hash_rounds": 4},
        "cache": {"enabled": True, "backend": "oslo_cache.dict"},
    }


def placement(site: Site) -> Config:
    """Of placement."""
    return {
        "DEFAULT": {"log_file": site.log / "placement.log"},
        "api": {"auth_strategy": "keystone"},
        "placement_database": {"connection": site.sql("placement"), **DATABASE},
        "keystone_authtoken": _authtoken(site, "placement"),
    }


def glance(site: Site) -> Config:
    """Of glance."""
    return {
        "DEFAULT": {
            "log_file": site.log / "glance.log",
            "enabled_backends": "fs:file",
            "enabled_import_methods": "[]",
            "worker_self_reference_url": site.url("glance"),
        },
        "database": {"connection": site.sql("glance"), **DATABASE},
        "glance_store": {"default_backend": "fs"},
        "fs": {"filesystem_store_datadir": site.data / "images"},
        "os_glance_staging_store": {"filesystem_store_datadir": site.data / "staging"},
        "os_glance_tasks_store": {"filesystem_store_datadir": site.data / "tasks"},
        "paste_deploy": {"flavor": "keystone", "config_file": PREFIX / "etc/glance/glance-api-paste.ini"},
        "oslo_policy": {"enforce_new_defaults": True},
        "keystone_authtoken": _authtoken(site, "glance"),
    }


def nova(site: Site) -> Config:
    """Of all of Nova's services, nova-compute included, but for the databases."""
    privsep = {"helper_command": f"{BIN}/privsep-helper --config-file {site.etc}/nova/nova.conf"}
    return {
        "DEFAULT": {
            "log_dir": site.log,
            "my_ip": "127.0.0.1",
            "host": "control",
            "state_path": site.data / "nova",
            "instances_path": site.instances,
            "transport_url": site.transport_url,
            "compute_driver": "libvirt.LibvirtDriver",
            "reserved_host_memory_mb": 0,
            "initial_cpu_allocation_ratio": 64.0,
            "initial_ram_allocation_ratio": 4.0,
            "shutdown_timeout": 5,
            "graceful_shutdown_timeout": 5,
            "manager_shutdown_timeout": 2,
            "heal_instance_info_cache_interval": -1,
            "enabled_apis": "osapi_compute",
            "report_interval": 5,
            "periodic_fuzzy_delay": 0,  # or else the scheduler looks for new hosts up to a minute late
            "service_down_time": 30,
            # Shelved servers leave their host at once, and deleted ones are gone.
            "shelved_offload_time": 0,
            "resize_confirm_window": 0,
            "allow_resize_to_same_host": False,
        },
        "api": {"auth_strategy": "keystone"},
        "wsgi": {"api_paste_config": PREFIX / "etc/nova/api-paste.ini"},
        "conductor": {"workers": 1},
        "scheduler": {"workers": 1, "discover_hosts_in_cells_interval": 3},
        # As docs/consumer.rst says.
        "notifications": {
            "notification_format": "versioned",
            "versioned_notifications_topics": f"versioned_notifications,{OUR_TOPIC}",
            "notify_on_state_change": "vm_and_task_state",
            "include_share_mapping": False,
        },
        "oslo_messaging_notifications": {"driver": "messagingv2", "retry": 3},
        "oslo_messaging_rabbit": RABBIT,
        "oslo_concurrency": {"lock_path": site.data / "nova"},
        "glance": auth(site, "nova"),
        "placement": auth(site, "nova"),
        "neutron": auth(site, "nova"),
        "service_user": {**auth(site, "nova"), "send_service_user_token": True},
        "vnc": {"enabled": False},
        "libvirt": {
            "virt_type": "qemu",
            "images_type": "raw",
            "cpu_mode": "none",
            "wait_soft_reboot_seconds": 10,
            # The other node's libvirtd listens on nothing but its socket, which is here.
            "live_migration_uri": site.libvirt_uri("%s"),
            "connection_uri": "qemu:///system",
        },
        # A kernel is no disk image, says the inspector when a migration fetches it again.
        "workarounds": {"disable_deep_image_inspection": True},
        "nova_sys_admin": privsep,
        "vif_plug_ovs_privileged": privsep,
        "vif_plug_linux_bridge_privileged": privsep,
        "keystone_authtoken": _authtoken(site, "nova"),
    }


def nova_databases(site: Site) -> Config:
    """Apart: nova-compute must not have them."""
    return {
        "api_database": {"connection": site.sql("nova_api"), **DATABASE},
        "database": {"connection": site.sql("nova_cell1"), **DATABASE},
    }


def nova_compute(site: Site, node: str, driver: str) -> Config:
    """What one node's nova-compute has besides."""
    return {
        "DEFAULT": {
            "host": node,
            "state_path": site.node(node) / "nova",
            "log_file": site.log / f"nova-compute-{node}.log",
            "compute_driver": driver,
        },
        "oslo_concurrency": {"lock_path": site.node(node) / "nova"},
    }


def masakari(site: Site) -> Config:
    """Of masakari's API and engine."""
    return {
        "DEFAULT": {
            "log_dir": site.log,
            "auth_strategy": "keystone",
            "host": "control",
            "transport_url": site.transport_url,
            "masakari_api_listen": "127.0.0.1",
            "masakari_api_listen_port": site.ports["masakari"],
            "masakari_api_workers": 1,
            "nova_catalog_admin_info": "compute:nova:publicURL",
            "os_region_name": REGION,
            "os_privileged_user_name": "masakari",
            "os_privileged_user_password": PASSWORD,
            "os_privileged_user_tenant": "service",
            "os_privileged_user_auth_url": site.auth_url,
            "os_user_domain_name": "Default",
            "os_project_domain_name": "Default",
            "verify_interval": 1,
            # By default it sleeps up to 5 s before it takes a notification.
            "notification_delay_max": 0,
            "wait_period_after_service_update": 5,
            "process_unfinished_notifications_interval": 15,
            "retry_notification_new_status_interval": 15,
        },
        "wsgi": {"api_paste_config": PREFIX / "etc/masakari/api-paste.ini"},
        "instance_failure": {"process_all_instances": True},
        "database": {"connection": site.sql("masakari"), **DATABASE},
        "taskflow": {"connection": site.sql("masakari")},
        "oslo_messaging_notifications": {"driver": "noop"},
        "oslo_messaging_rabbit": RABBIT,
        "keystone_authtoken": _authtoken(site, "masakari"),
    }


#: As docs/masakari.rst says.
OUR_TASKS: Config = {
    "taskflow_driver_recovery_flows": {
        "instance_failure_recovery_tasks": "pre:['vmhb_stop_or_reboot'],main:['vmhb_start_unless_rebooted'],"
        "post:['confirm_instance_active_task','vmhb_confirm_heartbeat']"
    },
    "vmhb": {"heartbeat_time": 60},
}


def monitors(site: Site, node: str) -> Config:
    """Of masakari-monitors, on one node: for what stands beside us, or in our place."""
    return {
        "DEFAULT": {"hostname": node, "log_file": site.log / f"masakari-monitors-{node}.log"},
        "libvirt": {"connection_uri": "qemu:///system"},
        "api": {**auth(site, "masakari"), "region": REGION, "api_interface": "public"},
        # What a flavor of FAST asks for. Its threshold of 1 reports the third ping in a row that failed.
        "introspectiveinstancemonitor": {
            "guest_monitoring_interval": 1,
            "guest_monitoring_timeout": 1,
            "guest_monitoring_failure_threshold": 1,
        },
    }


def worker(site: Site, node: str) -> Config:
    """Of a node's vmhb-worker, as docs/operator.rst says; faster where somebody would have to wait."""
    return {
        "DEFAULT": {
            "host": node,
            "state_path": site.node(node) / "vmhb",
            "transport_url": site.transport_url,
            "log_file": site.log / f"vmhb-worker-{node}.log",
            "use_stderr": False,
        },
        "libvirt": {"connection_uri": "qemu:///system"},
        "vmhb_notifications": {"topics": ",".join(FAULT_TOPICS)},
    }


def consumer(site: Site) -> Config:
    """Of nova-vmhb-consumer, as docs/consumer.rst says."""
    credentials = auth(site, "masakari")
    del credentials["valid_interfaces"]  # the reporter's name for it is another one
    return {
        "DEFAULT": {
            "host": "control",
            "state_path": site.data / "vmhb",
            "transport_url": site.transport_url,
            "log_file": site.log / "nova-vmhb-consumer.log",
            "use_stderr": False,
        },
        "vmhb_notifications": {"topics": ",".join(FAULT_TOPICS)},
        "consumer": {"reporters": "log,masakari"},
        "nova": auth(site, "nova"),
        "reporter_masakari": {
            **credentials,
            "interface": "public",
            "process_all_instances": True,  # as masakari.conf
        },
    }


def text(config: Config) -> str:
    """As a file."""
    lines = []
    for group, options in config.items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in options.items())]
    return "\n".join(lines) + "\n"


def write(site: Site, driver: str) -> None:
    """All of them. driver: the compute_driver."""
    files = {
        "keystone/keystone.conf": keystone(site),
        "placement/placement.conf": placement(site),
        "glance/glance-api.conf": glance(site),
        "nova/nova.conf": nova(site),
        "nova/nova-db.conf": nova_databases(site),
        **{f"nova/{node}.conf": nova_compute(site, node, driver) for node in NODES},
        "masakari/masakari.conf": masakari(site),
        **{f"masakari/monitors-{node}.conf": monitors(site, node) for node in NODES},
        **{f"vmhb/vmhb-worker-{node}.conf": worker(site, node) for node in NODES},
        "vmhb/nova-vmhb-consumer.conf": consumer(site),
    }
    for name, config in files.items():
        put(site.etc / name, text(config))
    for name in ("nova", "masakari"):  # looked for beside the configuration
        shutil.copy(PREFIX / "etc" / name / "api-paste.ini", site.etc / name)
    for name in ("images", "staging", "tasks", "nova", "instances"):
        (site.data / name).mkdir(parents=True, exist_ok=True)
    put(site.folder / "openrc", "".join(f"export {name}={value}\n" for name, value in site.admin.items()))


def put(path: pathlib.Path, content: str) -> None:
    """Write a file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
