"""Many random kills and resumes of mpqueue: any number of workers, any world that divides the lanes, each backend."""

import dataclasses
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from parts.gauntlet.peers import ENTRIES, OURS
from parts.gauntlet.pipeline import Setup
from parts.gauntlet.scenarios import Gauntlet, Outcome, Stage

KILLS = 4  # of one stream
WORKERS, WORLDS, BACKENDS = range(5), (1, 2, 4, 8), ("process", "thread")
SIZES, BUFFER, BATCH, COST_S = (4200, 1800), 60, 8, 20e-6
SHARES = (0.05, 0.35)  # so that even the last kill comes before the first lane has ended
ALONE = Stage(0, 1)  # what is not disturbed


@dataclasses.dataclass(frozen=True)
class Stream:
    """One stream with its kills.

    Attributes:
        seed: Of the stream and of the kills.
        is_packed: It packs.
        save_every: Batches between two states.
        stages: What it has between the kills.
    """

    seed: int
    is_packed: bool
    save_every: int
    stages: tuple[Stage, ...]

    def play(self, folder: Path) -> Outcome:
        """Run it, beside an undisturbed run without workers on one rank."""
        setup = Setup(
            0, sizes=SIZES, cost_s=COST_S, buffer=BUFFER, batch=BATCH, is_packed=self.is_packed, seed=self.seed
        )
        return Gauntlet(ENTRIES[OURS], setup, folder, self.seed, ALONE).play(self.stages, self.save_every, SHARES)


def streams(kills: int, seed: int, worlds: Sequence[int] = WORLDS) -> Iterator[Stream]:
    """Yield streams that are killed so often, all together.

    Args:
        kills: All together.
        seed: Of all that is random.
        worlds: Numbers of ranks.
    """
    chosen = random.Random(seed)
    while kills > 0:
        count = min(kills, KILLS)
        stages = tuple(
            Stage(chosen.choice(WORKERS), chosen.choice(worlds), chosen.choice(BACKENDS)) for _ in range(count + 1)
        )
        yield Stream(chosen.randrange(1 << 30), chosen.random() < 0.3, chosen.randint(1, 6), stages)
        kills -= count


def is_exact(outcome: Outcome) -> bool:
    """Return True if nothing was lost, nothing came twice, and the order is that of the undisturbed run."""
    return outcome.verdict is not None and outcome.verdict == (0, 0, True)


def run(kills: int, seed: int, told: Callable[[str], None], worlds: Sequence[int] = WORLDS) -> bool:
    """Play streams until there were so many kills; return True if each was exact.

    Args:
        kills: How many.
        seed: Of all that is random.
        told: Called with a line for each stream.
        worlds: Numbers of ranks.
    """
    exact = 0
    done, failed = 0, 0
    for stream in streams(kills, seed, worlds):
        with tempfile.TemporaryDirectory(prefix="gauntlet-") as folder:
            outcome = stream.play(Path(folder))
        done += len(stream.stages) - 1
        exact += is_exact(outcome)
        failed += not is_exact(outcome)
        told(f"{done} kills: {_named(stream)}: {_result(outcome)}")
    told(f"seed {seed}: {done} kills and resumes in {exact + failed} streams, {failed} of them not exact")
    return failed == 0


def _named(stream: Stream) -> str:
    stages = ", ".join(f"{stage.world}x{stage.workers} {stage.backend}" for stage in stream.stages)
    return f"seed {stream.seed}{', packed' if stream.is_packed else ''}, {stages}"


def _result(outcome: Outcome) -> str:
    if outcome.verdict is None:
        return f"REFUSED {outcome.refusal}"
    lost, twice, in_order = outcome.verdict
    order = "order equal" if in_order else "ANOTHER ORDER"
    return f"{lost} lost, {twice} twice, {order}, {outcome.first_s:.2f} s, {outcome.state_bytes:,} bytes"
