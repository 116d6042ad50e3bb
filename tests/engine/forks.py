"""Starts of an application as forks of one process that has imported everything: a start takes a tenth of a second, and a kill is a real one."""

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any


def serve(run: Callable[..., Any]) -> None:
    """Fork a child for each line of input, which calls the function with the items of this JSON list; print its exit status."""
    for line in sys.stdin:
        arguments = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run(*arguments)
                code = 0
            except Exception:  # noqa: BLE001 - the child's end: the parent tells its exit code
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
