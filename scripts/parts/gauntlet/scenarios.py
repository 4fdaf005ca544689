"""Killed and resumed runs, each compared with an uninterrupted one."""

import dataclasses
import json
import math
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from parts.gauntlet.peers import Entry
from parts.gauntlet.pipeline import Setup
from parts.gauntlet.ranks import Ranks, ResumeError
from parts.gauntlet.trainer import Task
from parts.gauntlet.verdict import Batch, Part, Verdict, judge, stream
from parts.machine import SCRIPTS


class Stage(NamedTuple):
    """One part of a run: from its start, or from a resume, until it ends."""

    workers: int
    world: int


CHANGES = {
    "unchanged, 2 workers": [Stage(2, 1), Stage(2, 1), Stage(2, 1)],
    "unchanged, 1 worker": [Stage(1, 1), Stage(1, 1)],
    "workers 2 to 4": [Stage(2, 1), Stage(4, 1)],
    "workers 2 to 1": [Stage(2, 1), Stage(1, 1)],
    "ranks 2 to 1": [Stage(1, 2), Stage(1, 1)],
    "ranks 2 to 4": [Stage(1, 2), Stage(1, 4)],
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The outcome of a run.

    Attributes:
        verdict: The verdict, or None if the entry failed.
        refusal: The error message of a failure.
        first_s: The longest time to the first batch after a resume.
        state_bytes: Size of the largest loaded state, of all ranks together.
    """

    verdict: Verdict | None = None
    refusal: str = ""
    first_s: float = 0.0
    state_bytes: int = 0

    @property
    def is_exact(self) -> bool:
        """Whether no sample was lost or repeated, and the order equals the order of the uninterrupted run."""
        return self.verdict == (0, 0, True)


class Gauntlet:
    """Runs of one entry.

    Args:
        entry: The library that loads the data.
        setup: Setup of all runs, with the workers and ranks of each stage.
        folder: An empty folder for all files.
        seed: Seed of the kills.
        plain: Setup of a reference run with the same batches, or None to compare with a run that has the workers and
        ranks of the first stage.
    """

    def __init__(self, entry: Entry, setup: Setup, folder: Path, seed: int, plain: Setup | None = None) -> None:
        self._entry, self._folder = entry, folder
        self._setup = dataclasses.replace(setup, folder=str(folder / "sets"))
        self._random, self._number = random.Random(seed), 0
        self._plain = plain
        self._references: dict[Stage | None, list[Batch]] = {}
        if entry.writes:  # its own format
            task = Task(entry.module, "prepare", "", dataclasses.asdict(self._setup))
            command = [entry.python, "-m", "parts.gauntlet.trainer", json.dumps(dataclasses.asdict(task))]
            done = subprocess.run(command, cwd=SCRIPTS, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr)

    def uninterrupted(self, stage: Stage) -> list[Batch]:
        """Return all batches of an uninterrupted run."""
        key = None if self._plain else stage
        if key not in self._references:
            setups = [self._plain] if self._plain else self._setups(stage)
            with self._ranks(setups, None, save_every=1 << 40) as ranks:
                ranks.wait()
            self._references[key] = stream(ranks.batches(), splits_batch=self._entry.splits_batch)
        return self._references[key]

    def play(self, stages: Sequence[Stage], save_every: int = 16, shares: tuple[float, float] = (0.1, 0.8)) -> Outcome:
        """Run the stages, with a kill at the end of each but the last.

        Args:
            stages: The stages in order.
            save_every: Number of batches between two states.
            shares: Range of the position of a kill, as a fraction of the remaining batches.
        """
        try:
            uninterrupted = self.uninterrupted(stages[0])
        except ResumeError as error:
            return Outcome(refusal=str(error))
        parts: list[Part] = []
        states, first_s, state_bytes = None, 0.0, 0
        for index, stage in enumerate(stages):
            is_last, is_resumed = index == len(stages) - 1, states is not None
            done = sum(len(rank) for part in parts for rank in part)
            left = len(uninterrupted) - done // (stages[0].world if self._entry.splits_batch else 1)
            per_rank = left if self._entry.splits_batch else left // stage.world
            kill_at = max(2, int(self._random.uniform(*shares) * per_rank))
            setups, slow_from = self._setups(stage), -1 if is_last else kill_at
            try:
                with self._ranks(setups, states, save_every=save_every, slow_from=slow_from) as ranks:
                    ranks.wait(math.inf if is_last else kill_at)
            except ResumeError as error:
                return Outcome(refusal=str(error), state_bytes=state_bytes)
            if is_resumed:
                first_s = max(first_s, ranks.first_seconds())
            if is_last:
                parts.append(ranks.batches())
                continue
            step, files = ranks.last_states()
            # Otherwise the stage was killed before its first state, and the next one resumes from the same state.
            if step:
                states = files
                state_bytes = max(state_bytes, sum(file.stat().st_size for file in files))
            parts.append([rank[:step] for rank in ranks.batches()])
        verdict = judge(uninterrupted, parts, splits_batch=self._entry.splits_batch)
        return Outcome(verdict, first_s=first_s, state_bytes=state_bytes)

    def _setups(self, stage: Stage) -> list[Setup]:
        return [
            dataclasses.replace(self._setup, workers=stage.workers, rank=rank, world=stage.world)
            for rank in range(stage.world)
        ]

    def _ranks(self, setups: list[Setup], states: list[Path] | None, *, save_every: int, slow_from: int = -1) -> Ranks:
        self._number += 1
        folder = self._folder / str(self._number)
        return Ranks(self._entry, setups, folder, states, save_every=save_every, slow_from=slow_from)
