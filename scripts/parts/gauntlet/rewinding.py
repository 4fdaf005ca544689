"""Random pipelines that are rewound: seeks, exclusions, changes of weights, kills, and resumes on other ranks.

Each pipeline is run twice: on one rank without workers, and on several ranks whose workers are killed and which are
resumed with other numbers of workers and ranks. Both runs take the same actions after the same batches. Their batches
must be equal; of a stream, up to its first exclusion, which takes effect where its virtual shards have read. `explain`
must name the samples that the batches carried, `compute` must return their bytes, and no excluded sample is returned.

All ranks are loaders of this process, which take turns, so that a batch has the same number in both runs.
"""

import contextlib
import dataclasses
import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psutil

import mpqueue
from mpqueue import Dataset

WORLDS = (1, 2, 4)
LANES, BATCH, LENGTH, TURN = 8, 5, 4000, 4  # TURN: actions follow a multiple of this number of batches
NUM_BATCHES = 160  # of all ranks; no lane ends before
PARTS = ("web", "code", "books")


def augmented(index: int) -> dict[str, Any]:
    """Return a sample with random numbers of each kind."""
    numbers = [random.random(), np.random.random(), mpqueue.rng().random()]
    return {"index": index, "numbers": np.array(numbers)}


def is_kept(sample: dict[str, Any]) -> bool:
    """Return whether a filter passes a sample."""
    return sample["index"] % 3 > 0


def document(index: int) -> list[int]:
    """Return the tokens of a sample, of different lengths."""
    return [index] * (index % 7 + 1)


NUMBERS = Dataset.range(LENGTH)
MIXTURE = Dataset.mix(dict.fromkeys(PARTS, NUMBERS), weights=dict(zip(PARTS, (5, 3, 2), strict=True)), stop="never")


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of pipeline.

    Attributes:
        source: Its source.
        options: The options of its loader.
        has_weights: It is a mixture.
        is_stream: It is a stream.
    """

    source: Dataset
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    has_weights: bool = False
    is_stream: bool = False


KINDS = {
    "index": Kind(NUMBERS.shuffle().map(augmented).batch(BATCH)),
    "sampler": Kind(NUMBERS.map(augmented), {"sampler": range(LENGTH - 1, 0, -2), "batch_size": BATCH}),
    "buffer": Kind(NUMBERS.shuffle(buffer=30).map(augmented).batch(BATCH), {"lanes": LANES}, is_stream=True),
    "filter": Kind(
        NUMBERS.map(augmented).filter(is_kept).shuffle(buffer=12).batch(BATCH), {"lanes": LANES}, is_stream=True
    ),
    "pack": Kind(
        Dataset.range(4 * LENGTH).map(document).pack(8).shuffle(buffer=5).batch(BATCH), {"lanes": LANES}, is_stream=True
    ),
    "mixture": Kind(MIXTURE.batch(BATCH), has_weights=True),
    "mixture in a stream": Kind(
        MIXTURE.shuffle(buffer=9).batch(BATCH), {"lanes": LANES}, has_weights=True, is_stream=True
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Action:
    """An action after a number of batches of all ranks.

    Attributes:
        after: The number of batches.
        name: "exclude", "weights" or "seek".
        value: The ids, the weights with the first sample, or the number of batches to seek to.
    """

    after: int
    name: str
    value: Any


class Run:
    """The loaders of all ranks of a pipeline.

    Args:
        kind: The kind of the pipeline.
        seed: The seed of the loaders.
        workers: The number of workers.
        world: The number of ranks.
        states: The states to resume from.
    """

    def __init__(self, kind: Kind, seed: int, workers: int, world: int, states: Any = None) -> None:
        self.kind, self.world = kind, world
        self.loaders = [
            mpqueue.Loader(kind.source, seed=seed, workers=workers, shard=(rank, world), **kind.options)
            for rank in range(world)
        ]
        if states is not None:
            for loader in self.loaders:
                loader.load_state_dict(states if kind.is_stream else states[0])
        self.iterators = list(map(iter, self.loaders))

    def take(self) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
        """Yield the ids and the contents of one batch of each rank."""
        for loader, batches in zip(self.loaders, self.iterators, strict=True):
            batch = next(batches)
            yield loader.last.samples, contents(batch)

    def act(self, action: Action) -> None:
        """Take an action on all ranks."""
        for loader in self.loaders:
            if action.name == "exclude":
                loader.exclude(action.value)
            elif action.name == "weights":
                loader.set_weights(*action.value)
            else:
                loader.seek(0, action.value // self.world)
        if action.name == "seek":
            self.iterators = list(map(iter, self.loaders))

    def states(self) -> Any:
        """Return the states of all ranks after a round trip through JSON."""
        return json.loads(json.dumps([loader.state_dict() for loader in self.loaders]))

    def check(self, number: int, found: tuple[Any, Any]) -> str | None:
        """Return a complaint about the answers for a batch of all ranks, or None."""
        loader, batch = self.loaders[number % self.world], number // self.world
        # It was returned with other ranks, or before an exclusion in an earlier process.
        with contextlib.suppress(LookupError):
            if loader.explain(0, batch, run=True).samples != found[0]:
                return f"explain of batch {number} differs"
            if contents(loader.compute(0, batch)) != found[1]:
                return f"compute of batch {number} differs"
        return None

    def stop(self) -> None:
        """Stop the loaders."""
        for loader in self.loaders:
            loader.stop()


def contents(batch: Any) -> Any:
    """Return a batch as plain data, which can be compared."""
    if isinstance(batch, dict):
        return {name: np.asarray(values).tolist() for name, values in batch.items()}
    return np.asarray(batch).tolist()


def actions_of(kind: Kind, chosen: random.Random) -> list[Action]:
    """Return random actions, in order; each place has at most one."""
    actions = []
    for after in sorted(chosen.sample(range(TURN, NUM_BATCHES // 2, TURN), chosen.randint(1, 4))):
        name = chosen.choice(["exclude", "exclude", "seek"] + ["weights"] * 2 * kind.has_weights)
        value: Any = None
        if name == "exclude":
            numbers = chosen.sample(range(300), chosen.randint(1, 40))
            value = {chosen.choice(PARTS): numbers} if kind.has_weights else numbers
        elif name == "seek":
            value = chosen.randrange(0, after + 1, TURN)
        else:
            # After all samples that the lanes may have taken by now.
            first = after * BATCH + (LANES * 80 if kind.is_stream else 0)
            value = dict(zip(PARTS, chosen.choices(range(1, 9), k=3), strict=True)), first + chosen.randrange(60)
        actions.append(Action(after, name, value))
    return actions


def played(kind: Kind, seed: int, actions: list[Action], chosen: random.Random | None) -> tuple[list[Any], list[str]]:
    """Run a pipeline; with ``chosen``, with random workers, ranks, kills and resumes.

    Returns:
        The ids and contents of all batches, in order, and complaints about the answers for them.
    """
    run = Run(kind, seed, *((0, 1) if chosen is None else (chosen.randint(1, 3), chosen.choice(WORLDS))))
    found: list[Any] = []
    wrong: list[str] = []
    current: dict[int, Any] = {}  # by number: the batches that are valid after the last seek
    number, left = 0, list(actions)
    try:
        while len(found) < NUM_BATCHES:
            for batch in run.take():
                found.append(batch)
                current[number] = batch
                number += 1
            if number % TURN:
                continue
            if chosen is not None and chosen.random() < 0.3:
                checked = chosen.choice(list(current))
                complaint = run.check(checked, current[checked])
                wrong += [] if complaint is None else [complaint]
            if left and left[0].after <= len(found):
                action = left.pop(0)
                try:
                    run.act(action)
                except LookupError:
                    # A stream that another process resumed does not know the places before its exclusions. The
                    # batches before are compared.
                    if not (kind.is_stream and action.name == "seek"):
                        raise
                    break
                if action.name == "seek":
                    # A later batch may lack samples that were excluded meanwhile. A seek forward leaves a gap.
                    first = min(number, action.value)
                    current = {each: batch for each, batch in current.items() if each < first}
                    number = action.value
            if chosen is not None and chosen.random() < 0.15:
                kill_worker(chosen)
            if chosen is not None and chosen.random() < 0.2:
                states = run.states()
                run.stop()
                # Places before a resume on another number of ranks are unknown, so that no seek may lead there.
                seeks = any(action.name == "seek" for action in left)
                run = Run(kind, seed + 1, chosen.randint(0, 3), run.world if seeks else chosen.choice(WORLDS), states)
    finally:
        run.stop()
    return found, wrong


def comparable(kind: Kind, actions: list[Action]) -> int:
    """Return the number of batches that do not depend on the speed of workers.

    The order of a stream after an exclusion depends on how far its virtual shards had read ahead.
    """
    ends = [action.after for action in actions if action.name == "exclude" and kind.is_stream]
    return min(ends, default=NUM_BATCHES * 2)


def broken_exclusions(found: list[Any], actions: list[Action]) -> list[str]:
    """Return a complaint for each exclusion after which one of its samples was returned."""
    wrong = []
    for action in actions:
        if action.name == "exclude":
            ids = action.value
            excluded = {(part, each) for part in ids for each in ids[part]} if isinstance(ids, dict) else set(ids)
            later = {sample for samples, _ in found[action.after :] for sample in samples}
            wrong += [f"samples excluded after {action.after} were returned"] * bool(excluded & later)
    return wrong


def kill_worker(chosen: random.Random) -> None:
    """Kill a random child process, if there is one."""
    children = psutil.Process().children(recursive=True)
    if children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(chosen.choice(children).pid, signal.SIGKILL)


def run(count: int, seed: int, report: Callable[[str], None]) -> bool:
    """Run random pipelines; return True if all batches and answers were right.

    Args:
        count: Number of pipelines.
        seed: Seed of all random choices.
        report: Called with a line for each pipeline.
    """
    chosen, num_wrong = random.Random(seed), 0
    for number in range(count):
        name, own = chosen.choice(list(KINDS)), chosen.randrange(1 << 30)
        kind = KINDS[name]
        actions = actions_of(kind, random.Random(own))
        expected, _ = played(kind, own, actions, None)
        found, wrong = played(kind, own, actions, random.Random(own + 1))
        count_equal = min(len(found), len(expected), comparable(kind, actions))
        wrong += broken_exclusions(found, actions)
        if found[:count_equal] != expected[:count_equal]:
            first = next(at for at in range(count_equal) if found[at] != expected[at])
            wrong.append(f"batch {first} differs")
        num_wrong += bool(wrong)
        taken = ", ".join(f"{action.name} after {action.after}" for action in actions)
        report(f"{number + 1}: seed {own}, {name}, {taken}: {'; '.join(wrong) or 'equal'}")
    report(f"seed {seed}: {count} pipelines, {num_wrong} with differences")
    return not num_wrong
