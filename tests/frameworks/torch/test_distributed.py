"""`shard="auto"` in a real group of torch.distributed: two processes, gloo, on this machine."""

import itertools
import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("torch")

PROGRAM = """
import json, sys
import torch.distributed
import mpqueue

rank = int(sys.argv[2])
torch.distributed.init_process_group("gloo", init_method=sys.argv[1], rank=rank, world_size=2)
with mpqueue.Loader(list(range(24)), batch_size=4, shard="auto", shuffle=True, seed=1, workers=1) as loader:
    found = [[batch.tolist() for batch in loader] for _ in range(2)]
print(json.dumps(found))
torch.distributed.destroy_process_group()
"""


def test_ranks_of_a_group_share_all_batches(tmp_path):
    address = f"file://{tmp_path}/store"  # a file, because a free port may be taken by another process in the meantime
    # Only the group reports the rank: torch's launchers would set these variables.
    env = {name: value for name, value in os.environ.items() if name not in {"RANK", "WORLD_SIZE"}}
    env["GLOO_SOCKET_IFNAME"] = "lo"
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": env}
    both = [subprocess.Popen([sys.executable, "-c", PROGRAM, address, str(rank)], **options) for rank in range(2)]
    try:
        outputs = [process.communicate(timeout=280) for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], [err[-2000:] for _, err in outputs]
    first, second = (json.loads(out) for out, _ in outputs)
    for epoch in range(2):
        assert [len(first[epoch]), len(second[epoch])] == [3, 3]
        assert sorted(itertools.chain(*first[epoch], *second[epoch])) == list(range(24))
    assert first[0] != first[1]
