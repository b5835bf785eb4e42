"""Several commands of one `*-manage` program: `python -m tests.cloud.manage MODULE JSON`.

In one process, whose imports cost seconds and its commands milliseconds; each runs in a fork of its own, since none
expects that another came before it. JSON: the list of the commands' arguments.
"""

from __future__ import annotations

import importlib
import json
import os
import sys


def main() -> int:
    """Exit code: 0 all went well, 1 one did not, and the rest was left out."""
    name, commands = sys.argv[1], json.loads(sys.argv[2])
    program = importlib.import_module(name).main
    for arguments in commands:
        sys.argv = [f"{name.split('.')[0]}-manage", *arguments]
        print("$", *sys.argv, flush=True)
        child = os.fork()
        if not child:
            sys.exit(program())
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            print(f"ended with {code}", flush=True)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
