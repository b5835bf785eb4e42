"""Fuzzing, guided by coverage, of what a guest says to the worker, and a host or an application to vmhb-guest.

    python -m tests.fuzz [SECONDS] [CORPUS]     15 seconds by default; exit code 1 where something is found

CORPUS: a folder that keeps what was found worth keeping, for the next run. CI runs this for seconds; longer runs are
made by hand, and their figures stand in docs/protocol.rst.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz import seeds

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS = 15
#: MiB and seconds: an input that takes more than this is a finding too.
MEMORY, PATIENCE = 1024, 10


def run(seconds: int, corpus: Path | None) -> int:
    """In a process of its own, which libFuzzer ends. What it found, or its figures, are printed."""
    with tempfile.TemporaryDirectory(prefix="vmhb-fuzz-") as scratch:
        folder = Path(scratch)
        seeds.prepare(folder)
        kept = corpus or folder / "corpus"
        kept.mkdir(parents=True, exist_ok=True)
        options = (f"-max_total_time={seconds}", f"-rss_limit_mb={MEMORY}", f"-timeout={PATIENCE}", "-max_len=9000")
        places = (f"-dict={folder}/words", f"-artifact_prefix={folder}/", str(kept), f"{folder}/seeds")
        command = [sys.executable, "-m", "tests.fuzz.ears", *options, *places]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, errors="replace") as process:
            said = list(_followed(process))
    figures = _figures("\n".join(said))
    if process.returncode or not figures:
        print("\n".join(said[-60:]))
        return 1
    print(figures)
    return 0


def _followed(process: subprocess.Popen[str]) -> Iterator[str]:
    """Its lines; of a long run, its progress every now and then."""
    for line in process.stderr or ():
        if "pulse" in line:
            print(line.strip(), flush=True)
        yield line.rstrip("\n")


def _figures(said: str) -> str:
    """In one line; "" where there are none, and so something was amiss."""
    began = re.search(r"INITED cov: (\d+)", said)
    ended = re.search(r"#(\d+)\s+DONE\s+cov: (\d+) ft: (\d+) corp: (\d+)/\S+ .*rss: (\d+)Mb", said)
    spent = re.search(r"Done \d+ runs in (\d+) second", said)
    if not (began and ended and spent):
        return ""
    inputs, coverage, features, corpus, memory = ended.groups()
    return (
        f"{inputs} inputs in {spent[1]} s, nothing found; coverage {began[1]} -> {coverage} points, "
        f"{features} features; {corpus} inputs worth keeping; {memory} MiB"
    )


if __name__ == "__main__":
    asked = sys.argv[1:]
    sys.exit(run(int(asked[0]) if asked else SECONDS, Path(asked[1]) if len(asked) > 1 else None))
