"""The curves as files: each point is measured in a fresh process, then written as JSON and as a plot."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from parts.benchmark import growing
from parts.benchmark.curves import CURVES, Curve
from parts.benchmark.goals import verdict
from parts.benchmark.measure import Measurement
from parts.benchmark.peers import missing
from parts.benchmark.plots import draw_curve
from parts.benchmark.workloads import WORKLOADS

SECONDS, QUICK_SECONDS = 1.0, 0.2
BESIDE = ("torch", "spdl")
START_S_PER_MILLION = 0.1
EARLY, EARLY_SHARE = 20, 0.8


def write_curves(
    names: Iterable[str], folder: Path, num_workers: int, told: Callable[[str], None], *, quick: bool
) -> Iterator[str]:
    """Measure curves; each is written when it is whole.

    Args:
        names: Which.
        folder: Where ``NAME.json`` and ``NAME.png`` go.
        num_workers: Of the curves that do not say themselves how many.
        told: Called before each point with what it is.
        quick: Few points, briefly.

    Yields:
        A line on each curve.
    """
    seconds = QUICK_SECONDS if quick else SECONDS
    for name in names:
        curve = CURVES[name]
        found: list[dict[str, float]] = []
        for point in curve.points(quick=quick):
            told(f"{name}: {point:,.0f}")
            found.append({curve.across: point} | _point(name, curve, point, num_workers, seconds))
        file = folder / f"{name.replace(' ', '_')}.json"
        document = {"about": curve.about, "across": curve.across, "points": found}
        file.write_text(json.dumps(document, indent=1), "utf-8")
        draw_curve(name, curve.across, curve.about, found, file.with_suffix(".png"))
        yield "\n".join([f"{name} ({file.stem}.png)", *_told(curve.across, found), *_judged(name, curve.across, found)])


def _point(name: str, curve: Curve, point: float, num_workers: int, seconds: float) -> dict[str, float]:
    if not isinstance(curve.measure, str):
        found: dict[str, float] = Measurement("curve", name, str(point), num_workers, seconds).in_fresh_process()
        return found
    rates = {}
    for feed in ("mpqueue", *BESIDE):
        if not missing([feed]):
            one = Measurement("feed", feed, curve.measure, int(point), seconds).in_fresh_process()
            rates[feed] = one["rate"] * WORKLOADS[curve.measure].per_batch
    return rates


def _told(across: str, found: list[dict[str, float]]) -> Iterator[str]:
    for point in found:
        figures = ", ".join(f"{value:,.6g} {key}" for key, value in point.items() if key != across)
        yield f"  {point[across]:>15,.0f} {across}: {figures}"


def _judged(name: str, across: str, found: list[dict[str, float]]) -> Iterator[str]:
    if name == "dispatcher":
        yield f"  {saturation(across, found)}"
    if isinstance(CURVES[name].measure, str):
        first, last = found[0], found[-1]
        share = last["mpqueue"] / first["mpqueue"] * first[across] / last[across]
        yield f"  efficiency at {last[across]:,.0f} workers: {share:.2f} of what as many times one would do"
    if name == "first batches":
        (share,) = (point["GB/s"] / point["GB/s at best"] for point in found if point[across] == EARLY)
        wanted = f"{EARLY_SHARE:g} wanted: {verdict(share >= EARLY_SHARE)}"
        yield f"  the first {EARLY} came at {share:.2f} of the later rate, {wanted}"
    if name == "dataset length":
        worst = max(1e6 * point[growing.START] / point[across] for point in found if point[across] >= 1e6)
        wanted = f"at most {START_S_PER_MILLION:g} wanted: {verdict(worst <= START_S_PER_MILLION)}"
        yield f"  start of an epoch: {worst:.3f} s per million, {wanted}"


def saturation(across: str, found: list[dict[str, float]]) -> str:
    """Return the highest rate, the point from which less than nine tenths arrived, and the trainer's own limit."""
    most = max(point["batches/s"] for point in found)
    allowed = max(1e6 / point[growing.TRAINER] for point in found)
    bound = f"one CPU in the trainer would do for {allowed:,.0f}"
    for point in found:
        if point["batches/s"] < 0.9 * point[across]:
            came = f"of {point[across]:,.0f} offered, {point['batches/s']:,.0f} came"
            return f"saturates at {most:,.0f} batches/s: {came}; {bound}"
    return f"not saturated: {most:,.0f} batches/s came of as many offered; {bound}"
