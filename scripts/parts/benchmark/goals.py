"""Targets of mpqueue other than ratios of two rates."""

import itertools
import statistics
from collections.abc import Iterator

from parts.benchmark import balance, blocks, cache, sparse
from parts.benchmark.balance import BALANCE
from parts.benchmark.blocks import BLOCKS_WORKLOAD
from parts.benchmark.cache import CACHE_WORKLOAD
from parts.benchmark.cells import median_cell, ratio
from parts.benchmark.ray_workloads import FIRST
from parts.benchmark.results import Results
from parts.benchmark.samples import COPIED as COUNTED
from parts.benchmark.samples import copied_per_byte
from parts.benchmark.seen import COST, SEEN, WAYS, error_of
from parts.benchmark.service import ONE_CONSUMER, RING
from parts.benchmark.sparse import SPARSE_WORKLOAD
from parts.benchmark.starts import FROM_ENQUEUER, FROM_LOADER, LOADER, NUMPY

SMALL_RATE, SMALL_SHARE = 60_000.0, 0.6  # batches/s, or the ratio to processes that produce into slots
DECODE_CPU_MS = 0.1  # of the trainer, per batch
COPIED = 1.0  # bytes for each byte of a batch
MEMORY_MB, MEMORY_PER_WORKER_MB = 20.0, 12.0  # beyond the ring
ATTACH_MS = 20.0  # to the first batch
RING_SHARE = 1.05  # of one consumer's ring, for four
SEEN_COST = 1.0  # percent of the CPU time of a batch
RAY_FIRST_MS = 5_000.0  # to the first batch, on a running cluster
EVEN = 1.01  # (max / mean) of the ranks' work, in steps without a sample above half of a rank's mean
PADDING_POINTS = 2.0  # more than a sorted epoch has
OF_UNSHUFFLED = {1: 0.8, 2: 0.5}  # of the rate without shuffle, by number of workers, for a shuffle by blocks
OF_ONE_RANK = 1.1  # times the memory of one rank, for all ranks with a cache
OF_ARRAY = 0.7  # times the rate of an array in memory, for the second epoch with a cache
OF_FULL = 10.0  # times the rate of a full shuffle of row groups
OF_DENSE, OF_STOCK = 8.0, 3.0  # times the rate of dense batches, and of sparse batches of torch's loader
PLANNING_US = {8: 1.0, 1024: 10.0}  # per sample, by number of ranks
STARTS = {LOADER: 1.25, FROM_LOADER: 1.8, FROM_ENQUEUER: 1.8}  # ratio to an import of NumPy


def verdict(is_reached: bool) -> str:
    """Return the word after a figure and its target."""
    return "reached" if is_reached else "MISSED"


def lines(results: Results) -> Iterator[str]:
    """Yield a line for each figure that was measured."""
    yield from _small(results)
    yield from _decode(results)
    yield from _memory(results)
    yield from _copied(results)
    yield from _attach(results)
    yield from _ring(results)
    yield from _ray_first(results)
    yield from _seen(results)
    yield from _starts(results)
    yield from _balance(results)
    yield from _blocks(results)
    yield from _sparse(results)
    yield from _cache(results)


def _small(results: Results) -> Iterator[str]:
    rates, share = results.rates.get(("small", "mpqueue")), results.ratio("small", "slots")
    if rates and share is not None:
        rate = statistics.median(rates)
        figure = f"small: {rate:,.0f} batches/s, {share:.2f} times slots"
        target = f"target at least {SMALL_RATE:,.0f} or {SMALL_SHARE:g}"
        yield f"{figure}, {target}: {verdict(rate >= SMALL_RATE or share >= SMALL_SHARE)}"


def _decode(results: Results) -> Iterator[str]:
    used = results.costs.get(("decode", "mpqueue"), {}).get("trainer_ms")
    if used:
        spent = statistics.median(used)
        figure = f"decode: {spent:.3f} ms of the trainer's CPU per batch, target below {DECODE_CPU_MS:g}"
        yield f"{figure}: {verdict(spent < DECODE_CPU_MS)}"


def _memory(results: Results) -> Iterator[str]:
    limit = MEMORY_MB + results.num_workers * MEMORY_PER_WORKER_MB
    for workload, grown in results.memory.items():
        used = statistics.median(grown)
        yield f"memory beyond the ring, {workload}: {used:.1f} MB, target at most {limit:g}: {verdict(used <= limit)}"


def _copied(results: Results) -> Iterator[str]:
    for workload in COUNTED:
        if (workload, "mpqueue") in results.rates:
            copied = copied_per_byte(workload)
            figure = f"{workload}: {copied:.2f} bytes are copied for each byte of a batch, target {COPIED:g}"
            yield f"{figure}: {verdict(copied <= COPIED)}"


def _attach(results: Results) -> Iterator[str]:
    for name, times in results.service.get(("service attach", "mpqueue"), {}).items():
        median = statistics.median(times)
        figure = f"{name}: {median:.1f} ms to the first batch ({min(times):.1f} to {max(times):.1f})"
        yield f"{figure}, target at most {ATTACH_MS:g}: {verdict(median <= ATTACH_MS)}"


def _ring(results: Results) -> Iterator[str]:
    many, one = (results.service.get(("service broadcast", name), {}).get(RING) for name in ("mpqueue", ONE_CONSUMER))
    if many and one:
        share = ratio(median_cell(many), median_cell(one))
        figure = f"service broadcast: {share:.2f} times the ring of one consumer ({median_cell(one):,.0f} MB)"
        yield f"{figure}, target at most {RING_SHARE:g}: {verdict(share <= RING_SHARE)}"


def _ray_first(results: Results) -> Iterator[str]:
    times = results.service.get(("ray first batch", "mpqueue"), {}).get(FIRST)
    if times:
        median = statistics.median(times)
        figure = f"{FIRST}: {median:,.0f} ms ({min(times):,.0f} to {max(times):,.0f})"
        yield f"{figure}, target at most {RAY_FIRST_MS:,.0f}: {verdict(median <= RAY_FIRST_MS)}"


def _seen(results: Results) -> Iterator[str]:
    for workload, way in itertools.product(SEEN, WAYS):
        lost = results.service.get((workload, way), {}).get(COST)
        if lost:
            median, count = statistics.median(lost), len(lost)
            figure = (
                f"{workload}: {way} cost {median:.2f} {COST} (median of {count}, standard error {error_of(lost):.2f})"
            )
            yield f"{figure}, target at most {SEEN_COST:g}: {verdict(median <= SEEN_COST)}"


def _starts(results: Results) -> Iterator[str]:
    for what, limit in STARTS.items():
        found = results.start_ratio(what)
        if found is not None:
            times = results.starts[what]
            figure = f"cold start, {what}: {found:.2f} times an {NUMPY} ({min(times):.0f} to {max(times):.0f} ms)"
            yield f"{figure}, target at most {limit:g}: {verdict(found <= limit)}"


def _balance(results: Results) -> Iterator[str]:
    for (workload, way), found in results.service.items():
        if workload not in BALANCE:
            continue
        yield from balance.lines(way, found)
        middle = {name: statistics.median(values) for name, values in found.items()}
        if balance.EVEN in middle:
            figure = f"{way}: max / mean {middle[balance.EVEN]:.3f} in {middle[balance.EVEN_STEPS]:.0%} of the steps"
            yield f"{figure}, target at most {EVEN:g}: {verdict(middle[balance.EVEN] <= EVEN)}"
        ours, theirs = (100 * middle[balance.PADDING + name] for name in (balance.SORTING, balance.SORTED))
        figure = f"{way}: {ours - theirs:.1f} points more padding than a sorted epoch"
        yield f"{figure}, target at most {PADDING_POINTS:g}: {verdict(ours - theirs <= PADDING_POINTS)}"
        limit = PLANNING_US.get(balance.WAYS[way][2])
        if limit is not None:
            names = (balance.ONE, balance.FOUR, balance.SORTING)
            longest = max(middle[balance.PLANNING + name] for name in names)
            figure = f"{way}: planning takes {longest:.2f} us per sample"
            yield f"{figure}, target at most {limit:g}: {verdict(longest <= limit)}"


def _blocks(results: Results) -> Iterator[str]:
    for (workload, way), found in results.service.items():
        if workload not in BLOCKS_WORKLOAD:
            continue
        middle = {name: statistics.median(values) for name, values in found.items()}
        yield from blocks.lines(way, middle)
        for workers, limit in OF_UNSHUFFLED.items() if way != blocks.ORDER else ():
            goals = [(blocks.NONE, limit), *[(blocks.FULL, OF_FULL)] * (way == blocks.PARQUET)]
            for against, at_least in goals:
                share = middle[blocks.case(blocks.BLOCKS, workers)] / middle[blocks.case(against, workers)]
                figure = f"{blocks.case(f'blocks of {way}', workers)}: {share:.2f} times {against}"
                yield f"{figure}, target at least {at_least:g}: {verdict(share >= at_least)}"


def _sparse(results: Results) -> Iterator[str]:
    for (workload, _), found in results.service.items():
        if workload not in SPARSE_WORKLOAD:
            continue
        middle = {name: statistics.median(values) for name, values in found.items()}
        yield from sparse.lines(middle)
        for ours, theirs, at_least in (
            (sparse.RAGGED, sparse.DENSE, OF_DENSE),
            (sparse.TORCH_RAGGED, sparse.STOCK_CSR, OF_STOCK),
            (sparse.TORCH_CSR, sparse.STOCK_CSR, OF_STOCK),
        ):
            if sparse.RATE + theirs in middle:
                share = middle[sparse.RATE + ours] / middle[sparse.RATE + theirs]
                figure = f"sparse, {ours}: {share:.2f} times {theirs}"
                yield f"{figure}, target at least {at_least:g}: {verdict(share >= at_least)}"


def _cache(results: Results) -> Iterator[str]:
    middle = {
        way: {name: statistics.median(values) for name, values in found.items()}
        for (workload, way), found in results.service.items()
        if workload in CACHE_WORKLOAD
    }
    for way, figures in middle.items():
        yield from cache.lines(way, figures)
    ours, array = middle.get(cache.CACHED), middle.get(cache.ARRAY)
    if ours:
        share = ours[cache.PSS] / ours[cache.ONE_PSS]
        figure = f"cache: {share:.2f} times the memory of one rank, target at most {OF_ONE_RANK:g}"
        yield f"{figure}: {verdict(share <= OF_ONE_RANK)}"
    if ours and array:
        share = ours[cache.SECOND] / array[cache.SECOND]
        figure = f"cache: {share:.2f} times an array in epoch 2, target at least {OF_ARRAY:g}"
        yield f"{figure}: {verdict(share >= OF_ARRAY)}"
