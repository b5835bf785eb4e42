"""Vitrage's notifiers, for `[DEFAULT] notifiers_path` of vitrage.conf: a package for each."""
