"""`tools/cloud demo`: a guest's kernel dies, nobody touches it, and it runs again. Told live, then a table of times."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

from tests.cloud import holder
from tests.cloud.stage import Server, Stage
from tests.cloud.story import CLEARED, RAISED, STEPS, Story
from tests.lab.processes import LabError

FLAVOR = "monitored"


def demo() -> None:
    """Raises LabError."""
    with visit() as (stage, tell):
        _tell(stage, tell)


@contextlib.contextmanager
def visit() -> Iterator[tuple[Stage, Callable[[str], None]]]:
    """The cloud that is up, which is left so; where there is none, one is brought up, and ended. And a way to tell what
    is done, with the time. Raises LabError."""
    began = time.monotonic()

    def tell(text: str) -> None:
        print(f"[{time.monotonic() - began:6.1f}] {text}", flush=True)

    was_up = holder.is_up()
    if not was_up:
        tell("a cloud comes up: Keystone, Placement, Glance, Nova with two compute nodes, Masakari, RabbitMQ, and ours")
    client = (
        holder.Client() if was_up else holder.start(os.getpid(), lambda line: print(f"         {line}", flush=True))
    )
    try:
        stage = Stage(client)
        try:
            yield stage, tell
        finally:
            stage.close()
    finally:
        if not was_up:
            client.end()
            tell("the cloud is down; nothing is left running")


def _tell(stage: Stage, tell: Callable[[str], None]) -> None:
    tell(f"a server is asked for, flavor {FLAVOR}: hw:heartbeat=true, hw:heartbeat_action=recover_unresponsive")
    server = stage.boot("web-1", FLAVOR)
    try:
        tell(f"Nova says ACTIVE, on {server.node}; the image says nothing of an agent, the flavor gave it its channel")
        beat = server.first_beat()
        tell(f">> RabbitMQ: {beat}: its first heartbeat")
        while not server.show().get("balloon_answers"):
            time.sleep(0.5)
        tell("its balloon answers, too: it can be told a dead kernel from a dead agent")
        moment = server.panic()
        tell("its kernel panics, and hangs. From here on nobody touches it")
        story = Story(server, moment, tell)
        story.follow()
        _table(server, beat.at, story)
        if story.resolution != "recovered" or server.actions().count("start") != 1:
            raise LabError(f"not as it should be: {story.resolution}, {server.actions()}")
    finally:
        server.delete()


def _table(server: Server, beat: float, story: Story) -> None:
    rows = [
        ("asked for → ACTIVE", server.active_at - server.asked_at),
        ("ACTIVE → first heartbeat", beat - server.active_at),
        *((f"panic → {step}", story.seconds(step)) for step in sorted(STEPS, key=story.seconds)),
    ]
    width = max(len(name) for name, _ in rows)
    print()
    for name, seconds in rows:
        print(f"  {name:{width}}  {seconds:6.1f} s")
    print(f"\n  server actions, as Nova lists them: {', '.join(reversed(server.actions()))}")
    print(f"  from the fault to the guest that answers: {story.seconds(CLEARED) - story.seconds(RAISED):.1f} s\n")
