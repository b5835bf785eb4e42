"""How long an instance may go unheard by announcement, and when that is told. Seconds; read by code, docs and tests."""

from __future__ import annotations

#: What is announced (over RPC, or by the guest itself) holds no longer than this, whoever asks: a number that was
#: mistyped, or an end that was forgotten, costs a day without monitoring, and not a year. Longer ones are cut, and that
#: is told.
#: Silences that libvirt itself stands for (paused, saved) last as long as the state that they stand for.
MAX_SILENCE = 86400.0
#: A silence of any kind that has lasted for so long is told as `vmhb.heartbeat.ended`: nobody leaves monitoring unseen.
#: Longer than nearly all planned operations take, so that it is told of those that did not go as planned.
LONG_SILENCE = 900.0
