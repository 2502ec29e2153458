#!/usr/bin/env bash
# torch 2.14.1 (Python 3.11, Linux): the `timeout` of a DataLoader does not bound the wait for a batch. It bounds the
# wait for a message in the queue of the workers; the message carries the batch as a file descriptor, which the reader
# then asks the worker for, without any limit. With timeout=2 and a worker that is paused (SIGSTOP) after its batches
# are in the queue, next() is still waiting 8 seconds later, and gives the batch when the worker goes on (SIGCONT).
#
# Seen:
#   timeout=2, the worker pauses for 8 s: next() took 8 s and gave a batch
#
# So a worker that hangs at that moment stops a training for ever, whatever the time-out says; who wants a bound has to
# watch the clock elsewhere and end the worker, at which the reader wakes with an error.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "torch==2.14.1" "numpy==2.4.6"
cat > "$folder/pause.py" <<'PY'
import os
import signal
import threading
import time

import torch
from torch.utils.data import DataLoader, Dataset


class Ones(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.ones(1000)


if __name__ == "__main__":
    batches = iter(DataLoader(Ones(), batch_size=1, num_workers=1, timeout=2, prefetch_factor=4))
    next(batches)
    (worker,) = (process.pid for process in __import__("multiprocessing").active_children())
    time.sleep(2)  # the other batches are in the queue
    os.kill(worker, signal.SIGSTOP)
    threading.Timer(8, os.kill, (worker, signal.SIGCONT)).start()
    began = time.monotonic()
    batch = next(batches)
    took = time.monotonic() - began
    assert batch.shape == (1, 1000), batch
    assert 7 < took < 30, f"next() took {took:.1f} s: it behaves otherwise now"
    print(f"timeout=2, the worker pauses for 8 s: next() took {took:.0f} s and gave a batch")
PY
"$folder/venv/bin/python" "$folder/pause.py"
