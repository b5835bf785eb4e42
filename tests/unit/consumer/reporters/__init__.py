"""Reporters, each against a fake of its backend."""
