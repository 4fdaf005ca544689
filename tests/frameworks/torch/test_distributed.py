"""`shard="auto"` in a real group of torch.distributed: two processes, gloo, on this machine."""

import itertools
import json
import os

import pytest

pytest.importorskip("torch")

PROGRAM = """
import json, os, sys
import torch.distributed
import mpqueue
rank = int(os.fork() == 0)
torch.distributed.init_process_group("gloo", init_method=sys.argv[1], rank=rank, world_size=2)
with mpqueue.Loader(list(range(24)), batch_size=4, shard="auto", shuffle=True, seed=1, workers=1) as loader:
    found = [[batch.tolist() for batch in loader] for _ in range(2)]
with open(f"{rank}.json", "w") as file:
    json.dump(found, file)
torch.distributed.destroy_process_group()
if rank == 0:
    assert os.wait()[1] == 0
"""


def test_ranks_of_a_group_share_all_batches(tmp_path, interpreter):
    (tmp_path / "program.py").write_text(PROGRAM)
    address = f"file://{tmp_path}/store"  # a file, because a free port may be taken by another process in the meantime
    # Only the group reports the rank: torch's launchers would set these variables.
    env = {name: value for name, value in os.environ.items() if name not in {"RANK", "WORLD_SIZE"}}
    env["GLOO_SOCKET_IFNAME"] = "lo"
    status, _, errors = interpreter.run([tmp_path / "program.py", address], tmp_path, env, timeout=280)
    assert status == 0, errors[-2000:]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    for epoch in range(2):
        assert [len(first[epoch]), len(second[epoch])] == [3, 3]
        assert sorted(itertools.chain(*first[epoch], *second[epoch])) == list(range(24))
    assert first[0] != first[1]
