"""Curves of growth: one figure against one quantity.

What a point measures is in `growing`, or it is the rates of several feeds of a workload, by the number of workers; here
are the points, the axes, and why a curve bends where it does.
"""

import dataclasses
from collections.abc import Callable

from parts.benchmark import growing

# A point, the number of workers, seconds: figures by what they are.
Measure = Callable[[float, int, float], dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Curve:
    """One quantity that grows.

    Attributes:
        about: What is measured, and where it is expected to bend and why; it stands under the plot.
        across: The quantity, with its unit.
        measure: Measures one point, of mpqueue; or the name of a workload, which is measured with others beside it.
        all_points: The points.
        quick_points: Some of them, for a short run.
    """

    about: str
    across: str
    measure: Measure | str
    all_points: tuple[float, ...]
    quick_points: tuple[float, ...]

    def points(self, *, quick: bool) -> tuple[float, ...]:
        """The points to measure."""
        return self.quick_points if quick else self.all_points


def _by_workers(workload: str, about: str) -> Curve:
    """Real work, by mpqueue and its nearest peers."""
    return Curve(f"{about} With n workers n times the rate of one is the most, up to a CPU each.", "workers", workload,
                 (1, 2, 4, 8, 15), (1, 2))  # fmt: skip


KB = 1 << 10
CURVES = {
    "batch size": Curve(
        "Copies of one array. Small batches cost the same each, whatever their size: the messages. Where the copy "
        "takes longer than they do, the curve falls with the speed of memory, and again where batches leave the "
        "caches.",
        "bytes per batch",
        growing.batch_size,
        tuple(KB * 4**power for power in range(10)),
        (KB, 64 * KB, 4096 * KB),
    ),
    "workers": Curve(
        "Workers that sleep 5 ms for each batch and need no CPU: n of them should give n times 200 batches/s, until "
        "what the trainer spends on a batch, times the rate, is one CPU.",
        "workers",
        growing.sleeping_workers,
        (1, 2, 4, 8, 16, 32, 64),
        (1, 4, 16),
    ),
    "saturation": Curve(
        "Workers that sleep, and would together give 128,000 batches/s: what arrives is what one dispatcher can serve, "
        "where there are CPUs for the workers beside it.",
        "workers",
        growing.saturating_workers,
        (4, 8, 16, 32, 64),
        (4, 16),
    ),
    "decode by workers": _by_workers("decode", "JPEG files, decoded and augmented: only CPUs should bend the curve."),
    "tiny by workers": _by_workers("tiny", "Batches of microseconds: the trainer's own CPU bends the curve."),
    "image by workers": _by_workers("image", "Copies of 19 MB: the speed of memory bends the curve."),
    "first batches": Curve(
        "Batches of 77 MB from the start of a pool on, with ten ahead: the rate of all up to there, without the first, "
        "beside that of the fifty after the first hundred. Memory that nobody has written is slow.",
        "batches since the start",
        growing.first_batches,
        (10, 20, 40, 80),
        (10, 20),
    ),
    "ring depth": Curve(
        "Small batches computed ahead. With one, a worker waits for the consumer after each; more let several travel "
        "on one wake-up, until there are always some ready.",
        "batches computed ahead (max_queue_size)",
        growing.ring_depth,
        (1, 2, 4, 8, 16, 32, 64),
        (1, 8, 64),
    ),
    "arrays per batch": Curve(
        "Arrays of 64 bytes. A batch costs its messages once and each array a copy and a view, so the curve goes from "
        "flat to inversely proportional.",
        "arrays per batch",
        growing.arrays_per_batch,
        (1, 2, 5, 10, 20, 50, 100),
        (1, 10, 100),
    ),
    "dataset length": Curve(
        "Shuffled epochs. A batch costs the same in an epoch of any length; below a few hundred batches the end of the "
        "epoch shows. The start draws a permutation, so it grows with the length.",
        "batches in an epoch",
        growing.dataset_length,
        tuple(10.0**power for power in range(1, 9)),
        (10, 1e4, 1e6),
    ),
    "epochs": Curve(
        "Epochs of 256 batches, one after the other: nothing accumulates.",
        "epochs",
        growing.epochs,
        (1, 4, 16, 64, 256),
        (1, 16),
    ),
    "enqueuers": Curve(
        "Enqueuers with one worker each, read in turn. They share nothing, so that only the CPUs bend the curve.",
        "enqueuers",
        growing.enqueuers,
        (1, 2, 4, 8, 16),
        (1, 4),
    ),
    "dispatcher": Curve(
        "Sixteen workers that sleep ever less for each batch. What they offer and what arrives part where the "
        "dispatcher saturates; the CPUs that the workers use themselves count, too, where there are few.",
        "offered batches/s",
        growing.dispatcher,
        (500, 1000, 2000, 4000, 8000, 16000, 32000, 64000, 128000),
        (1000, 16000),
    ),
}
