"""What every program of ours does: command line, systemd, crash points."""
