#!/usr/bin/env bash
# torchrun --standalone --max-restarts: the processes of a restart get the store of the start before, with its keys.
#
# Seen with torch 2.14.1 (Python 3.12, Linux x86-64). The first start writes a key through the store of its default
# process group and fails; the second one, whose TORCHELASTIC_RESTART_COUNT is 1, finds that key under the same name.
# The addresses by which gloo's processes find each other stand there too, so that a restart may read those of processes
# that have ended and fail with "connection refused" until the restarts are used up. With
# TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 each start has a store of its own. The comment in torch's own code ("a new
# TCPStore for every retry") describes that other case. See also pytorch issue 135712.
#
# What follows from it here: detector/distributed.py puts the number of the start before all keys.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/venv"
"$home/venv/bin/pip" install --quiet "torch==2.14.1" "numpy"

cat > "$home/starts.py" <<'EOF'
import os
import torch.distributed as dist

start = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
store, rank, world = next(dist.rendezvous("env://"))
print(f"start {start} finds the key of the start before:", store.check(["detector/mark"]), flush=True)
store.set("detector/mark", str(start))
raise SystemExit(1 if start == 0 else 0)
EOF

run() {
    "$home/venv/bin/python" -m torch.distributed.run --standalone --nproc-per-node 1 --max-restarts 1 "$home/starts.py" 2> "$home/log" ||
        { cat "$home/log"; exit 1; }
}

shared=$(run)
own=$(TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 run)
printf 'shared store:\n%s\nstore of its own:\n%s\n' "$shared" "$own"
grep -q "start 0 finds the key of the start before: False" <<< "$shared"
grep -q "start 1 finds the key of the start before: True" <<< "$shared"
grep -q "start 1 finds the key of the start before: False" <<< "$own"
echo "as described"
