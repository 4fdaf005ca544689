"""Many random kills and resumes of mpqueue with all backends, and with random numbers of workers and ranks.

There are three kinds of streams: loaders in processes and threads that exchange states; the same together with Ray, if
it is installed; and a server with its ranks, which resumes from its journal. In each, samples may be decoded in threads
of the workers.
"""

import contextlib
import dataclasses
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from parts.gauntlet.feed_mpqueue import SERVER
from parts.gauntlet.peers import ENTRIES, OURS
from parts.gauntlet.pipeline import Setup
from parts.gauntlet.scenarios import Gauntlet, Outcome, Stage
from parts.ray_cluster import cluster_aside, is_installed

KILLS = 4  # per stream
LOADER, RAY = "loader", "ray"
SHARES_OF_KINDS = {LOADER: 12, SERVER: 3, RAY: 2}
WORLDS = (1, 2, 4, 8)
THREADS = (1, 1, 2, 3)
BACKENDS = {LOADER: ("process", "thread"), SERVER: (SERVER,), RAY: ("ray", "ray", "process", "thread")}
WORKERS = {LOADER: range(5), SERVER: range(1, 5), RAY: range(1, 4)}
MOST_RANKS_ON_RAY = 2  # each joins the cluster, which takes a second of CPU time
SIZES, BUFFER, BATCH, COST_S = (2800, 1200), 40, 6, 20e-6
SHARES = (0.05, 0.35)  # so that even the last kill happens before the first lane ends
_RAY_CPUS = 64  # more than the workers of one stream


@dataclasses.dataclass(frozen=True)
class Stream:
    """One stream with its kills.

    Attributes:
        kind: Kind of the loader.
        seed: Seed of the stream and of the kills.
        is_packed: Whether it packs sequences.
        threads: Number of threads that decode samples.
        save_every: Number of batches between two states.
        stages: The stages between the kills.
    """

    kind: str
    seed: int
    is_packed: bool
    threads: int
    save_every: int
    stages: tuple[Stage, ...]

    def play(self, folder: Path) -> Outcome:
        """Run the stream, and compare it with an uninterrupted run on one rank without workers and threads."""
        plain = Setup(0, sizes=SIZES, cost_s=0.0, buffer=BUFFER, batch=BATCH, is_packed=self.is_packed, seed=self.seed)
        setup = dataclasses.replace(plain, cost_s=COST_S, threads=self.threads)
        gauntlet = Gauntlet(ENTRIES[OURS], setup, folder, self.seed, plain)
        if self.kind == SERVER:
            return gauntlet.play_served(self.stages, SHARES)
        return gauntlet.play(self.stages, self.save_every, SHARES)


def streams(
    kills: int, seed: int, worlds: Sequence[int] = WORLDS, kinds: Sequence[str] = tuple(SHARES_OF_KINDS)
) -> Iterator[Stream]:
    """Yield streams with a total number of kills.

    Args:
        kills: Total number of kills.
        seed: Seed of all random choices.
        worlds: Numbers of ranks.
        kinds: Kinds of streams.
    """
    chosen = random.Random(seed)
    while kills > 0:
        count = min(kills, KILLS)
        (kind,) = chosen.choices(kinds, [SHARES_OF_KINDS[kind] for kind in kinds])
        world = chosen.choice(worlds)
        stages = []
        for _ in range(count + 1):
            backend, workers = chosen.choice(BACKENDS[kind]), chosen.choice(WORKERS[kind])
            if kind != SERVER:  # a journal is bound to its number of ranks
                world = chosen.choice([number for number in worlds if kind != RAY or number <= MOST_RANKS_ON_RAY])
            stages.append(Stage(workers, world, backend))
        is_packed, threads, save_every = chosen.random() < 0.3, chosen.choice(THREADS), chosen.randint(1, 6)
        yield Stream(kind, chosen.randrange(1 << 30), is_packed, threads, save_every, tuple(stages))
        kills -= count


def is_exact(outcome: Outcome) -> bool:
    """Return whether no sample was lost or repeated, and the order is that of the uninterrupted run."""
    return outcome.verdict is not None and outcome.verdict == (0, 0, True)


def run(
    kills: int,
    seed: int,
    report: Callable[[str], None],
    worlds: Sequence[int] = WORLDS,
    kinds: Sequence[str] | None = None,
) -> bool:
    """Run streams until the number of kills is reached; return True if all were exact.

    Args:
        kills: Number of kills.
        seed: Seed of all random choices.
        report: Called with a line for each stream.
        worlds: Numbers of ranks.
        kinds: Kinds of streams, or None for all with installed packages.
    """
    lost = twice = done = failed = 0
    kinds = kinds or [kind for kind in SHARES_OF_KINDS if kind != RAY or is_installed()]
    planned = list(streams(kills, seed, worlds, kinds))
    with contextlib.ExitStack() as until:
        if any(stream.kind == RAY for stream in planned):
            os.environ["RAY_ADDRESS"] = until.enter_context(cluster_aside(_RAY_CPUS))
            until.callback(os.environ.pop, "RAY_ADDRESS")
        for stream in planned:
            with tempfile.TemporaryDirectory(prefix="gauntlet-") as folder:
                outcome = stream.play(Path(folder))
            done += len(stream.stages) - 1
            failed += not is_exact(outcome)
            if outcome.verdict is not None:
                lost, twice = lost + outcome.verdict.lost, twice + outcome.verdict.twice
            report(f"{done} kills: {_named(stream)}: {_result(outcome)}")
    report(
        f"seed {seed}: {done} kills and resumes in {len(planned)} streams: {lost} lost, {twice} repeated, "
        f"{'order equal' if not failed else f'{failed} streams not exact'}"
    )
    return failed == 0


def _named(stream: Stream) -> str:
    stages = ", ".join(f"{stage.world}x{stage.workers} {stage.backend}" for stage in stream.stages)
    threads = f", {stream.threads} threads" if stream.threads > 1 else ""
    return f"seed {stream.seed}{', packed' if stream.is_packed else ''}{threads}, {stages}"


def _result(outcome: Outcome) -> str:
    if outcome.verdict is None:
        return f"ERROR {outcome.refusal}"
    lost, twice, in_order = outcome.verdict
    order = "order equal" if in_order else "DIFFERENT ORDER"
    return f"{lost} lost, {twice} repeated, {order}, {outcome.first_s:.2f} s, {outcome.state_bytes:,} bytes"
