"""The worker that benchmarks measure: the real one, with its outbox, and messaging within this process."""

from __future__ import annotations

import threading
from pathlib import Path

from oslo_config import cfg

from vmhb_common import worker_api
from vmhb_worker import conf as options
from vmhb_worker.interfaces import Hypervisor


class Running:
    """One that runs, until its end. agent: options of its group."""

    def __init__(self, folder: Path, hypervisor: Hypervisor, **agent: object) -> None:
        from vmhb_worker.service import Worker  # noqa: PLC0415 - it takes a while, and only this needs it

        conf = cfg.ConfigOpts()
        options.register(conf)
        conf([], project="vmhb", default_config_files=[], default_config_dirs=[])
        worker_api.get_transport(conf, "fake:///")  # oslo.messaging registers its options where it is first used
        conf.set_override("transport_url", "fake:///")
        conf.set_override("host", "bench")
        conf.set_override("state_path", str(folder))
        for name, value in agent.items():
            conf.set_override(name, value, group="agent")
        self.worker = Worker(conf, options.settings(conf), hypervisor)
        self._thread = threading.Thread(target=lambda: self.worker.run(signals=False))
        self._thread.start()

    def end(self) -> None:
        """Of the worker."""
        self.worker.stop()
        self._thread.join()
