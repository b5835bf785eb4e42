"""Options: groups, types of values, shared groups, and what is wrong with a configuration."""
