"""For Vitrage, in its own Python: our faults as its alarms, and its alarms as events for Aodh.

Imports Vitrage, what Vitrage has, and itself: nothing else of ours. In vitrage.conf:

    [datasources] path = vitrage.datasources,nova_vmhb.vitrage      types = …,vmhb
    [entity_graph] datasources_values_dir: a folder with Vitrage's own and etc/vitrage/datasources_values/vmhb.yaml
    [DEFAULT] notifiers_path = vitrage.notifier.plugins,nova_vmhb.vitrage.notifiers      notifiers = …,vmhb_aodh

All of it is in etc/vitrage/vmhb.conf.

Legacy: Vitrage's last release is 15.0.1, of OpenStack 2025.2. It is what this is tested with.
"""
