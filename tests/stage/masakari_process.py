"""masakari-api and masakari-engine in one process, as their own programs start them. Run by Masakari's Python.

One argument: masakari.conf. With transport_url = fake:// the two of them need no broker.
"""

import sys

import eventlet
import masakari.cmd
import masakari.conf
from masakari import config, objects, service
from masakari.db.sqlalchemy import migration
from oslo_log import log as logging


def main() -> None:
    """Until it is killed."""
    # The API reads the command line once more.
    sys.argv = ["masakari", "--config-file", sys.argv[1]]
    conf = masakari.conf.CONF
    config.parse_args(sys.argv)
    logging.setup(conf, "masakari")
    objects.register_all()
    migration.db_sync()
    service.Service.create(binary="masakari-engine", topic=conf.masakari_topic).start()
    service.WSGIService("masakari_api").start()
    while True:
        eventlet.sleep(1)


if __name__ == "__main__":
    main()
