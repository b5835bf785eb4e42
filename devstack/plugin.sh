#!/bin/bash
#
# nova-vmhb in DevStack. Sourced by stack.sh, unstack.sh and clean.sh with the phase as arguments; what is set, and what
# local.conf may set, is in ``settings``. Runs on a controller, on a compute node, or on both in one.

_XTRACE_NOVA_VMHB=$(set +o | grep xtrace)
set +o xtrace

function vmhb_is_enabled {
    is_service_enabled vmhb-worker || is_service_enabled vmhb-consumer
}

# Into the environment of all services: Nova's hooks and Masakari's tasks are found there.
function install_vmhb {
    if is_service_enabled vmhb-worker; then
        # libvirt-python is compiled.
        install_package libvirt-dev pkg-config
    fi
    setup_develop "$NOVA_VMHB_DIR" worker,consumer,nova
}

function install_vmhb_driver {
    if is_service_enabled n-cpu && [[ "$VMHB_DRIVER" == "True" ]]; then
        "$(vmhb_bin_dir)/nova-vmhb-driver" install
    fi
}

function vmhb_bin_dir {
    get_python_exec_prefix
}

function configure_vmhb_nova {
    # nova-cpu.conf begins as a copy of this one.
    iniset "$NOVA_CONF" notifications notification_format both
    iniset "$NOVA_CONF" notifications versioned_notifications_topics versioned_notifications,vmhb_instances
    if is_service_enabled n-cpu && [[ "$VMHB_DRIVER" == "True" ]]; then
        iniset "$NOVA_CONF" DEFAULT compute_driver vmhb.VmhbLibvirtDriver
    fi
}

function configure_vmhb_masakari {
    if is_service_enabled masakari-engine && [[ -n "${MASAKARI_CONF:-}" ]]; then
        iniset "$MASAKARI_CONF" taskflow_driver_recovery_flows instance_failure_recovery_tasks \
            "pre:['vmhb_stop_or_reboot'],main:['vmhb_start_unless_rebooted'],post:['confirm_instance_active_task','vmhb_confirm_heartbeat']"
        iniset "$MASAKARI_CONF" vmhb transport_url "$(get_transport_url)"
    fi
}

function configure_vmhb_worker {
    sudo install -d -o "$STACK_USER" "$VMHB_CONF_DIR"
    sudo install -d "$VMHB_STATE_DIR"
    iniset_rpc_backend vmhb "$VMHB_WORKER_CONF"
    iniset "$VMHB_WORKER_CONF" DEFAULT debug "$ENABLE_DEBUG_LOG_LEVEL"
    iniset "$VMHB_WORKER_CONF" DEFAULT state_path "$VMHB_STATE_DIR"
    iniset "$VMHB_WORKER_CONF" verdict observe_only "$VMHB_OBSERVE_ONLY"
    sudo chmod 640 "$VMHB_WORKER_CONF"
}

function vmhb_reporters {
    if [[ -n "$VMHB_REPORTERS" ]]; then
        echo "$VMHB_REPORTERS"
    elif is_service_enabled masakari-api; then
        echo masakari,log
    else
        echo log
    fi
}

# What Nova and Masakari are asked with: reporters use what [nova] has.
function configure_vmhb_keystone {
    local group=nova
    iniset "$VMHB_CONSUMER_CONF" "$group" auth_url "$KEYSTONE_SERVICE_URI"
    iniset "$VMHB_CONSUMER_CONF" "$group" username vmhb
    iniset "$VMHB_CONSUMER_CONF" "$group" password "$SERVICE_PASSWORD"
    iniset "$VMHB_CONSUMER_CONF" "$group" project_name "$SERVICE_PROJECT_NAME"
    iniset "$VMHB_CONSUMER_CONF" "$group" user_domain_name "$SERVICE_DOMAIN_NAME"
    iniset "$VMHB_CONSUMER_CONF" "$group" project_domain_name "$SERVICE_DOMAIN_NAME"
}

function configure_vmhb_consumer {
    local reporters
    reporters=$(vmhb_reporters)
    sudo install -d -o "$STACK_USER" "$VMHB_CONF_DIR" "$VMHB_CONSUMER_STATE_DIR"
    iniset_rpc_backend vmhb "$VMHB_CONSUMER_CONF"
    iniset "$VMHB_CONSUMER_CONF" DEFAULT debug "$ENABLE_DEBUG_LOG_LEVEL"
    iniset "$VMHB_CONSUMER_CONF" DEFAULT state_path "$VMHB_CONSUMER_STATE_DIR"
    iniset "$VMHB_CONSUMER_CONF" consumer reporters "$reporters"
    iniset "$VMHB_CONSUMER_CONF" recovery observe_only "$VMHB_OBSERVE_ONLY"
    iniset "$VMHB_CONSUMER_CONF" nova_notifications transport_url "$(get_notification_url)"
    if is_service_enabled mysql || is_service_enabled postgresql; then
        iniset "$VMHB_CONSUMER_CONF" database connection "$(database_connection_url vmhb)"
    fi
    iniset "$VMHB_CONSUMER_CONF" nova auth_type password
    configure_vmhb_keystone
    chmod 640 "$VMHB_CONSUMER_CONF"
}

function init_vmhb_consumer {
    create_service_user vmhb admin
    if is_service_enabled mysql || is_service_enabled postgresql; then
        recreate_database vmhb
    fi
    # A release without this command makes its tables at its start.
    if "$(vmhb_bin_dir)/nova-vmhb-manage" --help | grep -qw db; then
        "$(vmhb_bin_dir)/nova-vmhb-manage" --config-file "$VMHB_CONSUMER_CONF" db sync
    fi
}

function start_vmhb {
    # It wants libvirt's read-write socket, and the channels' own.
    run_process vmhb-worker "$(vmhb_bin_dir)/vmhb-worker --config-file $VMHB_WORKER_CONF" root root
    run_process vmhb-consumer "$(vmhb_bin_dir)/nova-vmhb-consumer --config-file $VMHB_CONSUMER_CONF"
}

function stop_vmhb {
    stop_process vmhb-worker
    stop_process vmhb-consumer
}

function cleanup_vmhb {
    if [[ -x "$(vmhb_bin_dir)/nova-vmhb-driver" ]]; then
        "$(vmhb_bin_dir)/nova-vmhb-driver" remove || true
    fi
    sudo rm -rf "$VMHB_STATE_DIR" "$VMHB_CONSUMER_STATE_DIR" "$VMHB_CONF_DIR"
}

if vmhb_is_enabled; then
    if [[ "$1" == "stack" && "$2" == "install" ]]; then
        echo_summary "Installing nova-vmhb"
        install_vmhb
        install_vmhb_driver
    elif [[ "$1" == "stack" && "$2" == "post-config" ]]; then
        echo_summary "Configuring nova-vmhb"
        configure_vmhb_nova
        configure_vmhb_masakari
        if is_service_enabled vmhb-worker; then
            configure_vmhb_worker
        fi
        if is_service_enabled vmhb-consumer; then
            configure_vmhb_consumer
            init_vmhb_consumer
        fi
    elif [[ "$1" == "stack" && "$2" == "extra" ]]; then
        echo_summary "Starting nova-vmhb"
        start_vmhb
    fi

    if [[ "$1" == "unstack" ]]; then
        stop_vmhb
    fi

    if [[ "$1" == "clean" ]]; then
        cleanup_vmhb
    fi
fi

$_XTRACE_NOVA_VMHB
