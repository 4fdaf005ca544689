"""States saved by an earlier release can be loaded, and continue exactly."""

import contextlib
import io
import itertools
import json
import os
import random

import pytest
from helpers import saved_states
from helpers.saved_states import (
    CASES,
    FOLDER,
    NUM_AFTER,
    NUM_BEFORE,
    SERVERS,
    path_of,
    read,
    read_journal,
    served,
    take,
)
from helpers.server_directories import servers_directory  # noqa: F401

OF_LOADERS = [(name, world) for name, case in CASES.items() for world in case.worlds]
OF_TORCH = [name[:-3].rsplit("-", 1) for name in sorted(os.listdir(FOLDER)) if name.endswith(".pt")]


def by_json(state):
    return json.loads(json.dumps(state))


@pytest.mark.filterwarnings("ignore:the state is of rank:UserWarning")
@pytest.mark.parametrize(("name", "world"), OF_LOADERS)
def test_saved_state_of_loader_continues(name, world):
    states, rest = read(name, world)
    for rank in range(world):
        random.seed(99)
        with CASES[name].make(rank, world) as loader:
            loader.load_state_dict(by_json(states[rank]))
            # The orders of later epochs depend on the global generator, which the program must save.
            count = len(loader) - NUM_BEFORE if "global" in name else NUM_AFTER
            assert take(loader, count)[0] == rest[rank][:count]


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if 2 in case.worlds and name.startswith("stream")]
)
def test_saved_states_of_two_ranks_continue_on_one(name):
    states, rest = read(name, 2)
    with CASES[name].make(0, 1) as loader:
        loader.load_state_dict(by_json(states[::-1]))
        assert take(loader, NUM_AFTER)[0] == list(itertools.chain(*zip(*rest, strict=True)))[:NUM_AFTER]


def test_each_case_has_files():
    pytest.importorskip("torch")
    cases = {name: case.worlds for name, case in (CASES | saved_states.of_torch()).items()}
    names = [path_of(name, world) for name, worlds in cases.items() for world in worlds]
    names += [path_of(name, 2) for name in SERVERS]
    assert sorted(os.path.join(FOLDER, name) for name in os.listdir(FOLDER)) == sorted(names)


@pytest.mark.parametrize(("name", "world"), OF_TORCH)
def test_saved_state_of_torch_loader_continues(name, world):
    torch = pytest.importorskip("torch")
    case = saved_states.of_torch()[name]
    states, rest = read(name, int(world))
    for rank in range(int(world)):
        loader = case.make(rank, int(world))
        torch.manual_seed(99)
        file = io.BytesIO()
        torch.save(states[rank], file)
        file.seek(0)
        has_order = not name.startswith(("torch_stream", "torch_iterable"))  # which early releases did not describe
        with pytest.warns(UserWarning, match="does not describe") if has_order else contextlib.nullcontext():
            loader.load_state_dict(torch.load(file))
        # The order of the next pass depends on a generator, which the program must save.
        count = NUM_AFTER if "stream" in name else 10
        assert take(loader, count)[0] == rest[rank][:count]


@pytest.mark.usefixtures("servers_directory")
@pytest.mark.parametrize("name", SERVERS)
def test_saved_journal_of_server_continues(name, tmp_path):
    journal, rest = read_journal(name)
    path = tmp_path / "journal"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        file.write(journal)
    assert served(name, path, len(rest[0])) == rest
