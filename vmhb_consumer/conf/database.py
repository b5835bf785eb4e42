"""[database]: oslo.db's own options."""

from __future__ import annotations

from oslo_db import options

GROUP = "database"
HELP = "The database of faults. By default SQLite, in [DEFAULT] state_path: for one consumer only"
OPTS = options.database_opts
