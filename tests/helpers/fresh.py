"""Programs in a process of their own that starts at once: forked of one that has imported torch, or nothing.

Importing torch and torchvision takes seconds, and most tests of a process are not about that. Everything else is as of
`python`: nothing of the package is imported, variables, folder, arguments and the way it ends are its own. What is read
when Python, torch or the C library start is not: tests of that start a process by themselves.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from helpers import ROOT, environment

PARENT = """
import atexit, gc, json, os, runpy, signal, sys, threading
IMPORTS
found = sys.path[1:]
gc.freeze()  # the memory stays shared where nothing is written into it
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if not child:
        break
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    os._exit(0)
signal.alarm(600)  # seconds, for one that hangs
for number, name in enumerate((os.devnull, *asked["files"])):
    os.dup2(os.open(name, os.O_RDWR), number)
os.environ.clear()
os.environ.update(asked["env"])
os.chdir(asked["cwd"])
sys.path[:] = [os.getcwd(), *filter(None, asked["env"].get("PYTHONPATH", "").split(os.pathsep)), *found]
how, *sys.argv = asked["words"]
status = 0
try:
    if how == "-m":
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    elif how == "-c":
        code, sys.argv[0] = sys.argv[0], how
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv.insert(0, how)
        runpy.run_path(how, run_name="__main__")
except SystemExit as end:
    status = end.code or 0
    if not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
except BaseException:
    sys.excepthook(*sys.exc_info())
    status = 1
threading._shutdown()
atexit._run_exitfuncs()
sys.stdout.flush()
os._exit(status)  # to take torch down as Python does would touch all of its memory, which is shared until then
"""


class _Parent:
    """The process of which the others are forked, one at a time; it ends with this one."""

    def __init__(self, imports):
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        command = [sys.executable, "-c", PARENT.replace("IMPORTS", imports)]
        self.process = subprocess.Popen(command, text=True, env=env, cwd=ROOT, **pipes)
        self.child = None

    def start(self, **asked):
        """The number of a new process; one that nobody waited for, as its test failed, is killed."""
        if self.child:
            with suppress(ProcessLookupError):
                os.kill(self.child, signal.SIGKILL)
            self.wait()
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        self.child = self.told()
        return self.child

    def wait(self):
        self.child = None
        return self.told()

    def told(self):
        return int(self.process.stdout.readline())


class Fresh:
    """A program that runs: `-m MODULE WORD ...`, `-c CODE WORD ...` or `FILE WORD ...`, as of `python`.

    env: its variables; cwd: its folder; torch: whether it has imported torch. pid: of its process.
    """

    parents = {}  # noqa: RUF012 - of all

    def __init__(self, *words, env=None, cwd=ROOT, torch=True):
        if torch not in self.parents:
            self.parents[torch] = _Parent("import torch, torchvision" if torch else "")
        self.parent = self.parents[torch]
        self.words = [*map(str, words)]
        self.folder = tempfile.TemporaryDirectory()
        files = [Path(self.folder.name, name) for name in ("out", "err")]
        for file in files:
            file.touch()
        asked = {"words": self.words, "files": [*map(str, files)], "env": env or environment(), "cwd": str(cwd)}
        self.pid = self.parent.start(**asked)

    def runs(self):
        """Whether it has not ended yet."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def wait(self):
        """How it ended, and what it printed."""
        status = self.parent.wait()
        printed = [Path(self.folder.name, name).read_text() for name in ("out", "err")]
        self.folder.cleanup()
        return subprocess.CompletedProcess(self.words, status, *printed)


def fresh(*words, env=None, cwd=ROOT, torch=True):
    """How a program ended, and what it printed; as `subprocess.run` says it. The arguments are those of `Fresh`."""
    if not hasattr(os, "fork"):  # Windows
        command = [sys.executable, *map(str, words)]
        return subprocess.run(command, cwd=cwd, env=env or environment(), capture_output=True, text=True)
    return Fresh(*words, env=env, cwd=cwd, torch=torch).wait()
