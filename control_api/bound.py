"""Runs a module bound to its parent's life: `python -m control_api.bound PID MODULE ...`

In: the parent's process id, then a module and its arguments as after `python -m`. On Linux the
kernel kills this process when the parent ends, whatever ends it, `kill -9` included; elsewhere it
is on its own. Done here, before the module is loaded, because code between fork and exec
(`preexec_fn`) may deadlock in a program with threads.
"""

import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Bind this process to its parent, then become the module."""
    _program, parent, module, *arguments = sys.argv
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != int(parent):  # it ended before the call above
            sys.exit(1)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def command_line(module: str, *arguments: str) -> list[str]:
    """The command that runs a module bound to the process that asks, from its main thread."""
    bound = [sys.executable, "-m", "control_api.bound", str(os.getpid())]
    return [*bound, module, *arguments]


if __name__ == "__main__":
    main()
