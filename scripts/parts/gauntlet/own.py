"""Many random kills and resumes of mpqueue: any number of workers, any world that divides the lanes, each backend.

Three kinds of streams: of loaders in processes and threads, whose states go from each to each; the same with Ray's
workers among them, where there is Ray; and of a server with its ranks, which goes on by its journal. In each, samples
may be decoded in threads of the workers.
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

KILLS = 4  # of one stream
LOADER, RAY = "loader", "ray"
SHARES_OF_KINDS = {LOADER: 12, SERVER: 3, RAY: 2}
WORLDS = (1, 2, 4, 8)
THREADS = (1, 1, 2, 3)
BACKENDS = {LOADER: ("process", "thread"), SERVER: (SERVER,), RAY: ("ray", "ray", "process", "thread")}
WORKERS = {LOADER: range(5), SERVER: range(1, 5), RAY: range(1, 4)}
MOST_RANKS_ON_RAY = 2  # each joins the cluster, which takes a second of a CPU
SIZES, BUFFER, BATCH, COST_S = (2800, 1200), 40, 6, 20e-6
SHARES = (0.05, 0.35)  # so that even the last kill comes before the first lane has ended
_RAY_CPUS = 64  # that it deals: more than workers that one stream has


@dataclasses.dataclass(frozen=True)
class Stream:
    """One stream with its kills.

    Attributes:
        kind: Of what feeds it.
        seed: Of the stream and of the kills.
        is_packed: It packs.
        threads: In so many its samples are decoded.
        save_every: Batches between two states.
        stages: What it has between the kills.
    """

    kind: str
    seed: int
    is_packed: bool
    threads: int
    save_every: int
    stages: tuple[Stage, ...]

    def play(self, folder: Path) -> Outcome:
        """Run it, beside an undisturbed run without workers and threads on one rank."""
        plain = Setup(0, sizes=SIZES, cost_s=0.0, buffer=BUFFER, batch=BATCH, is_packed=self.is_packed, seed=self.seed)
        setup = dataclasses.replace(plain, cost_s=COST_S, threads=self.threads)
        gauntlet = Gauntlet(ENTRIES[OURS], setup, folder, self.seed, plain)
        if self.kind == SERVER:
            return gauntlet.play_served(self.stages, SHARES)
        return gauntlet.play(self.stages, self.save_every, SHARES)


def streams(
    kills: int, seed: int, worlds: Sequence[int] = WORLDS, kinds: Sequence[str] = tuple(SHARES_OF_KINDS)
) -> Iterator[Stream]:
    """Yield streams that are killed so often, all together.

    Args:
        kills: All together.
        seed: Of all that is random.
        worlds: Numbers of ranks.
        kinds: Of streams.
    """
    chosen = random.Random(seed)
    while kills > 0:
        count = min(kills, KILLS)
        (kind,) = chosen.choices(kinds, [SHARES_OF_KINDS[kind] for kind in kinds])
        world = chosen.choice(worlds)
        stages = []
        for _ in range(count + 1):
            backend, workers = chosen.choice(BACKENDS[kind]), chosen.choice(WORKERS[kind])
            if kind != SERVER:  # the journal of which is of so many ranks
                world = chosen.choice([number for number in worlds if kind != RAY or number <= MOST_RANKS_ON_RAY])
            stages.append(Stage(workers, world, backend))
        is_packed, threads, save_every = chosen.random() < 0.3, chosen.choice(THREADS), chosen.randint(1, 6)
        yield Stream(kind, chosen.randrange(1 << 30), is_packed, threads, save_every, tuple(stages))
        kills -= count


def is_exact(outcome: Outcome) -> bool:
    """Return True if nothing was lost, nothing came twice, and the order is that of the undisturbed run."""
    return outcome.verdict is not None and outcome.verdict == (0, 0, True)


def run(
    kills: int,
    seed: int,
    told: Callable[[str], None],
    worlds: Sequence[int] = WORLDS,
    kinds: Sequence[str] | None = None,
) -> bool:
    """Play streams until there were so many kills; return True if each was exact.

    Args:
        kills: How many.
        seed: Of all that is random.
        told: Called with a line for each stream.
        worlds: Numbers of ranks.
        kinds: Of streams; None: all that this interpreter has the packages for.
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
            told(f"{done} kills: {_named(stream)}: {_result(outcome)}")
    told(
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
        return f"REFUSED {outcome.refusal}"
    lost, twice, in_order = outcome.verdict
    order = "order equal" if in_order else "ANOTHER ORDER"
    return f"{lost} lost, {twice} repeated, {order}, {outcome.first_s:.2f} s, {outcome.state_bytes:,} bytes"
