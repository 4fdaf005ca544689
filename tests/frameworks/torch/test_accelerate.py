"""Accelerate with two real processes: the state of any rank resumes all ranks exactly."""

import itertools
import json
import os

import pytest

pytest.importorskip("accelerate")
pytest.importorskip("torchdata")

PROGRAM = """
import json
import os
import pathlib
import shutil
import sys
import accelerate
import torch
from torch.utils import data
import mpqueue.torch
STEPS, EPOCHS, BATCH = 6, 2, 2  # steps of each rank in an epoch
SAVE_AT = 2, 6, 9  # in the middle of both epochs, and at the end of the first
class Noisy(data.Dataset):
    def __len__(self):
        return STEPS * BATCH * 2
    def __getitem__(self, index):
        return index, torch.rand(()).item()
class Stream(data.IterableDataset):
    def __init__(self):
        self.next = 0
    def __iter__(self):
        first, self.next = self.next, 0
        for self.next in range(first + 1, STEPS * BATCH * 2 + 1):
            yield self.next - 1, torch.rand(()).item()
        self.next = 0
class StatefulStream(Stream):
    def state_dict(self):
        return {"next": self.next}
    def load_state_dict(self, state):
        self.next = state["next"]
def make():
    accelerate.utils.set_seed(3)
    dataset = {"stream": Stream, "stateful stream": StatefulStream}.get(kind, Noisy)()
    loader = data.DataLoader(dataset, batch_size=BATCH, shuffle=kind == "shuffled", num_workers=workers)
    return accelerator.prepare(loader)
def run(loader, step=0, save=None):
    found = {}
    for epoch in range(step // STEPS, EPOCHS):
        loader.set_epoch(epoch)
        for ids, noise in loader:
            step += 1
            found[step] = [ids.tolist(), noise.tolist()]
            if save is not None and step in SAVE_AT:
                save(loader, f"state-{step}")
    assert step == STEPS * EPOCHS, step
    return found
def save(loader, name):
    accelerator.save_state(name)
    accelerator.wait_for_everyone()
    if not kind.endswith("stream"):  # whose first rank reads for all
        shutil.copytree(name, f"{name}-of-{rank}")
        torch.save(loader.state_dict(), f"{name}-of-{rank}/dl_state_dict.bin")
    accelerator.wait_for_everyone()
def fork_ranks(action):
    # Returns True in the process of each rank, and False in this one.
    for rank in range(2):
        if os.fork() == 0:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            return True
    assert [os.wait()[1] for _ in range(2)] == [0, 0], action
    return False
cases = json.loads(sys.argv[1])
action = next((action for action in ("whole", "resumed") if fork_ranks(action)), None)
if action is None:
    sys.exit()
mpqueue.torch.install()
config = accelerate.DataLoaderConfiguration(use_stateful_dataloader=True, use_seedable_sampler=True)
rank = int(os.environ["RANK"])
# A file, because a free port may be taken by another process in the meantime.
torch.distributed.init_process_group("gloo", init_method=f"file://{os.getcwd()}/{action}", rank=rank, world_size=2)
accelerator = accelerate.Accelerator(cpu=True, dataloader_config=config)
assert accelerator.num_processes == 2, accelerator.num_processes
root = os.getcwd()
for kind, workers in cases:
    os.chdir(os.path.join(root, f"{kind} {workers}"))
    accelerator.free_memory()
    if action == "whole":
        found = {"whole": run(make(), save=save)}
    else:
        found = {}
        for folder in sorted(map(str, pathlib.Path().glob("state-*"))):
            accelerator.free_memory()
            loader = make()
            torch.rand(5)  # the random numbers of this process are not those of the first one
            accelerator.load_state(folder)
            found[folder] = run(loader, int(folder.split("-")[1]))
    with open(f"{action}-{rank}.json", "w") as file:
        json.dump(found, file)
    accelerator.wait_for_everyone()
accelerator.end_training()
"""
ACTIONS = ("whole", "resumed")
CASES = [("shuffled", 1), ("in order", 1), ("stream", 0), ("stateful stream", 0), ("stateful stream", 1)]


@pytest.fixture(scope="module")
def seen(tmp_path_factory, interpreter):
    """What each rank saw in each case: of the uninterrupted run by step, and of each resumed run.

    One group of processes runs all cases. They have the environment that torch's launcher would set.
    """
    folder = tmp_path_factory.mktemp("accelerate")
    (folder / "program.py").write_text(PROGRAM)
    for kind, workers in CASES:
        (folder / f"{kind} {workers}").mkdir()
    env = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    status, _, errors = interpreter.run([folder / "program.py", json.dumps(CASES)], folder, env, timeout=280)
    assert status == 0, errors[-4000:]

    def of(kind, workers):
        found = folder / f"{kind} {workers}"
        return [[json.loads((found / f"{action}-{rank}.json").read_text()) for rank in range(2)] for action in ACTIONS]

    return of


def check(whole, resumed, with_noise=True):
    """Check that all resumed runs equal the rest of the uninterrupted one on each rank."""
    for rank in range(2):
        expected = whole[rank]["whole"]
        for name, found in resumed[rank].items():
            first = int(name.split("-")[1])
            rest = {step: seen for step, seen in expected.items() if int(step) > first}
            if not with_noise:
                rest, found = ({step: seen[0] for step, seen in each.items()} for each in (rest, found))
            assert found == rest, (rank, name)


def all_of(part, whole, steps):
    """Return the ids (0) or the random numbers (1) that each rank saw in some steps."""
    return [set(itertools.chain(*(each["whole"][str(step)][part] for step in steps))) for each in whole]


@pytest.mark.parametrize("kind", ["shuffled", "in order"])
def test_state_of_any_rank_resumes_all_ranks(kind, seen):
    whole, resumed = seen(kind, 1)
    assert len(resumed[0]) == 9
    check(whole, resumed)
    for epoch in range(2):
        first, second = all_of(0, whole, range(6 * epoch + 1, 6 * epoch + 7))
        assert first | second == set(range(24))
    first, second = all_of(1, whole, range(1, 13))
    assert len(first) == len(second) == 24
    assert not first & second


@pytest.mark.parametrize(("kind", "workers"), [("stream", 0), ("stateful stream", 0), ("stateful stream", 1)])
def test_state_of_a_dispatched_stream_does_not_count_batches_read_ahead(kind, workers, seen):
    whole, resumed = seen(kind, workers)
    assert len(resumed[0]) == 3
    # Without workers, samples draw from the random numbers of the first rank, which reads ahead of its steps.
    check(whole, resumed, with_noise=workers > 0)
    first, second = all_of(0, whole, range(1, 7))
    assert first | second == set(range(24))
