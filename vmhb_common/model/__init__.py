"""Values and tables that all parts speak of: policies, faults, causes. Pure: the standard library only."""
