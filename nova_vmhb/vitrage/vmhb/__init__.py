"""The datasource `vmhb`: its options, which Vitrage registers as group `[vmhb]`."""

from oslo_config import cfg

VMHB_DATASOURCE = "vmhb"

OPTS = [
    cfg.StrOpt(
        "transformer",
        default="nova_vmhb.vitrage.vmhb.transformer.VmhbTransformer",
        required=True,
        help="Transformer class path.",
    ),
    cfg.StrOpt("driver", default="nova_vmhb.vitrage.vmhb.driver.VmhbDriver", required=True, help="Driver class path."),
    cfg.StrOpt("update_method", default="push", required=True, help="Leave it: faults come as notifications."),
    cfg.StrOpt(
        "transport_url",
        secret=True,
        help="The message broker of nova-vmhb-consumer, which is asked for all open faults. By default Vitrage's own.",
    ),
    cfg.IntOpt(
        "rpc_timeout",
        default=10,
        min=1,
        max=300,
        help="How long nova-vmhb-consumer may take to answer. If it doesn't, all alarms stay as they are. Seconds.",
    ),
]
