"""What other services' processes load: nova-api, nova-compute, masakari-engine, Vitrage; each its own modules of it.

The services are the host's: they are imported, never installed with us. Of ours, only `vmhb_common.model` is used.
"""
