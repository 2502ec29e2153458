"""Trainings that stop their own process with SIGKILL, at places that the loop has no say in."""

import re

from helpers.fresh import fresh

KILLERS = """
import os, signal, sys
from pathlib import Path
import torch
from detector.engine.log import TrainLog

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def die_after_step(number):
    real = TrainLog.step
    def step(self, step, *rest):
        real(self, step, *rest)
        if step == number:
            die()
    TrainLog.step = step

def while_a_checkpoint_is_written():
    real = torch.save
    def save(content, file):
        if content.get("step") == 6:
            file.write(b"half a checkpoint")
            file.flush()
            die()
        real(content, file)
    torch.save = save
"""

CHILDREN = """
if __name__ == "__main__":
    for kill in (KILLS,):
        child = os.fork()  # before this process has any thread of torch
        if not child:
            kill()
            train_in(kill.__name__)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        held = sorted(path.name for path in Path(folder_of(kill.__name__)).glob("model*"))
        print("\\nkilled", kill.__name__, status, *held, flush=True)
"""


def run_killed(home, script, kills):
    """A training for each of `kills`, one after the other, in a process each.

    script: Python that defines these functions, `train_in(kill)` and `folder_of(kill)`, by the name of a function; it
    may use what `KILLERS` has. Runs in the folder `home`. Returns a row for each: name, status, names of its
    checkpoints; and all that was printed.
    """
    path = home / "killed.py"
    path.write_text(KILLERS + script + CHILDREN.replace("KILLS", ", ".join(kills)))
    ended = fresh(path, cwd=home)
    told = re.sub(r"\.[0-9a-f]{16}\.tmp", ".tmp", ended.stdout + ended.stderr)  # names of their own
    rows = [line.split()[1:] for line in told.splitlines() if line.startswith("killed ")]
    return [(name, int(status), held) for name, status, *held in rows], told
