"""The state of a loader of each kind can be loaded, and continues exactly."""

import itertools
import json
import random

import pytest
from helpers.saved_states import CASES, NUM_AFTER, NUM_BEFORE, play, take

pytestmark = [pytest.mark.sample(2), pytest.mark.usefixtures("always_saved")]

OF_LOADERS = [(name, world) for name, case in CASES.items() for world in case.worlds]


def by_json(state):
    return json.loads(json.dumps(state))


@pytest.mark.filterwarnings("ignore:the state is of rank:UserWarning")
@pytest.mark.sample(9)
@pytest.mark.parametrize(("name", "world"), OF_LOADERS)
def test_saved_state_of_loader_continues(name, world):
    states, rest = play(CASES[name], world)
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
    states, rest = play(CASES[name], 2)
    with CASES[name].make(0, 1) as loader:
        loader.load_state_dict(by_json(states[::-1]))
        assert take(loader, NUM_AFTER)[0] == list(itertools.chain(*zip(*rest, strict=True)))[:NUM_AFTER]
