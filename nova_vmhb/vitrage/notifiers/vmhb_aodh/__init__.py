"""The notifier `vmhb_aodh`: its options, which Vitrage registers as group `[vmhb_aodh]`."""

from oslo_config import cfg

OPTS = [
    cfg.StrOpt(
        "notifier",
        default="nova_vmhb.vitrage.notifiers.vmhb_aodh.notifier.VmhbAodhNotifier",
        required=True,
        help="Notifier class path.",
    ),
    cfg.StrOpt(
        "transport_url", secret=True, help="The message broker that aodh-listener reads. By default Vitrage's own."
    ),
    cfg.StrOpt("topic", default="alarm.all", help="[listener] event_alarm_topic of aodh.conf."),
    cfg.IntOpt(
        "retry",
        default=3,
        min=1,
        help="How often to try again while the message broker is away. Then the event is lost; Vitrage's log says so.",
    ),
]
