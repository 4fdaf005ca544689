"""Invalid combinations of a source, a backend and options: each one a condition and its error message.

The first rule that applies raises. Checks of a single value are in the table of `mpqueue.plan.options.options`.
"""

from mpqueue.plan.options.backend_kinds import BackendName, kind_of
from mpqueue.plan.options.coroutines import reject_coroutine
from mpqueue.plan.options.options import Options
from mpqueue.plan.position.ranks import Ranks, Shard
from mpqueue.plan.sources.sources import Source
from mpqueue.system.program_streams import warn_caller
from mpqueue.system.units import count_text


def check_options(options: Options) -> None:
    """Raise a `ValueError` if options exclude each other."""
    others = {"batch_size": options.batch_size, "sampler": options.sampler, "drop_last": options.drop_last or None}
    excluded = [name for name, value in others.items() if value is not None]
    if options.batch_sampler is not None and excluded:
        raise ValueError(f"batch_sampler determines the batches, and excludes {', '.join(excluded)}")
    if options.collate is not None and not options.are_samples:
        raise ValueError("collate makes batches of samples: pass batch_size (or batch_sampler), too")
    if options.drop_last and options.batch_size is None and options.shard is None:
        raise _drop_needs_batch_size()
    if options.balance is not None:
        _check_balance(options)
    if options.max_errors is not None and options.on_error != "skip":
        raise ValueError('max_errors limits the samples that on_error="skip" leaves out: pass both, or neither')


def _check_balance(options: Options) -> None:
    from mpqueue.plan.options.balance import check_balance  # imported here: most programs use no balance

    check_balance(options.balance)
    if options.is_sampled:
        sampler = "sampler" if options.batch_sampler is None else "batch_sampler"
        raise ValueError(
            f"balance divides the order of all ranks, and a {sampler} returns the order of one rank: leave one out"
        )
    if not options.ordered:
        raise ValueError(
            "balance needs ordered=True: without an order, the ranks return batches of different steps at once"
        )
    if options.balance.makes_lists and options.on_error == "skip":
        raise ValueError(
            'max_cost gives all ranks equally many micro-batches, and on_error="skip" could leave one out on one rank: '
            "leave out the samples that raise by exclude=ids, or use accumulate=n"
        )


def check_backend(backend: BackendName, options: Options) -> None:
    """Check that a backend exists and that these options have an effect with it.

    Raises:
        ValueError: The backend does not exist, or an option has no effect with it.
        ImportError: The backend is "ray", and Ray is not installed.
    """
    kind = kind_of(backend)
    if options.ray_options is not None and kind.is_local:
        raise ValueError(f'ray_options needs backend="ray", got backend={backend!r}: leave it out')
    if options.start_method == "fork" and not kind.is_local:
        raise ValueError(
            'start_method="fork" forks this process, so all workers would run on this machine: leave it out with '
            'backend="ray"'
        )
    if not (kind.has_start_method or options.may_fall_back):
        raise ValueError(
            f"start_method={options.start_method!r} needs worker processes, and backend={backend!r} has no processes: "
            'leave it out, or use backend="process"'
        )
    if options.max_batch_bytes is not None and not kind.has_ring:
        raise ValueError(
            f"max_batch_bytes={options.max_batch_bytes} limits the shared memory of a batch, and backend={backend!r} "
            'uses none: leave it out, or use backend="process"'
        )
    if isinstance(options.workers, str) and not (kind.has_ring and kind.is_local):
        raise ValueError(
            f'workers="auto" needs worker processes on this machine, got backend={backend!r}: pass an integer'
        )
    if not kind.is_local:
        from mpqueue.plan.options.ray_options import check_installed  # imported here: most programs do not use Ray

        check_installed()


def check_inline(options: Options, *, is_asynchronous: bool) -> None:
    """Raise a `ValueError` for an option without an effect, if there are no workers.

    Args:
        options: The options.
        is_asynchronous: Coroutines compute the samples, so that a single sample can be ended.
    """
    if options.max_batch_bytes is not None:
        raise ValueError(
            f"max_batch_bytes={options.max_batch_bytes} limits the shared memory of a batch, and there is none without "
            "workers: leave it out, or pass workers=1"
        )
    if options.batch_timeout is not None and not is_asynchronous:
        raise ValueError(
            f"batch_timeout={options.batch_timeout} replaces the worker of a slow batch, and without workers "
            "the caller computes it: leave it out, or pass workers=1"
        )


def check(source: Source, options: Options) -> None:
    """Raise a `ValueError` if a source excludes an option."""
    if not source.has_index:
        _check_stream(options)
    elif options.balance is not None and options.batch_size is None:
        raise ValueError("balance divides samples among batches: pass batch_size, for a source of samples")
    if options.is_sampled and options.shuffle:
        sampler = "sampler" if options.batch_sampler is None else "batch_sampler"
        raise ValueError(f"a {sampler} determines the order, and excludes shuffle")
    remedies = {
        "lanes": "Leave it out",
        "epoch_batches": (
            "Leave it out. To continue after a part of an epoch, keep its iterator: batches = iter(loader), and "
            "itertools.islice(batches, n) for each part"
        ),
    }
    for name, remedy in remedies.items():
        if getattr(options, name) is not None and source.has_index:
            raise ValueError(
                f"{name}={getattr(options, name)} applies to streams (generator functions, datasets after a filter or "
                f"a buffer), and {source.name} has __getitem__ and __len__: its batches are numbered, and an epoch "
                f"ends with the last one. {remedy}"
            )
    if options.threads != 1:
        _check_threads(source, options)
    reject_coroutine(f"{source.name}.on_epoch_end", source.epoch_end(), "it is called between epochs, without a loop")
    if options.concurrency is not None and not source.uses_coroutines(batches=not options.are_samples):
        raise _needs_coroutines(source, options)


def _check_stream(options: Options) -> None:
    if options.balance is not None:
        raise ValueError(
            "balance needs a source with __getitem__ and __len__: the cost of an element of a stream is known only "
            "after it was computed. Pack rows of equal size by Dataset.pack, or write an index of the costs and use a "
            "source with an index"
        )
    if options.shuffle:
        raise ValueError("shuffle needs a source with __getitem__ and __len__: a generator determines its own order")
    if options.is_sampled:
        raise ValueError("a sampler needs a source with __getitem__: a generator determines its own order")
    if options.drop_last and options.batch_size is None:
        raise _drop_needs_batch_size()


def _drop_needs_batch_size() -> ValueError:
    return ValueError("drop_last applies to a short last batch: pass batch_size, too")


def _needs_coroutines(source: Source, options: Options) -> ValueError:
    shown = f"concurrency={options.concurrency}"
    if not source.has_index:
        return ValueError(
            f"{shown} computes samples by their indices, and {source.name} is a stream, whose elements have no index. "
            "Use coroutines in the slow stage of a mpqueue.Dataset instead: map(function, concurrency=n)"
        )
    return ValueError(
        f"{shown} needs an asynchronous source, and {source.name} has no `async def __getitem__`: define it, or use "
        "threads=n for code that waits without coroutines"
    )


def _check_threads(source: Source, options: Options) -> None:
    shown = f"threads={options.threads}"
    if not source.has_index:
        raise ValueError(
            f"{shown} computes the samples of a batch by their indices, and {source.name} is a stream, whose elements "
            "have no index. Use threads in the slow stage of a mpqueue.Dataset instead: map(function, threads=n)"
        )
    if not options.are_samples:
        raise ValueError(
            f"{shown} computes the samples of a batch in parallel, and each item of the source is already a batch: "
            "pass batch_size, for a source of samples; or use more workers"
        )
    if source.uses_coroutines(batches=False):
        raise ValueError(f"{shown} has no effect on {source.name}, which is asynchronous: use concurrency=n")
    why_not = source.parts.why_not_threads(int(options.threads))
    if why_not is not None:
        raise ValueError(why_not)


def check_workers(source: Source, workers: int, backend: BackendName, start_method: str) -> None:
    """Check that these workers can run a source.

    Raises:
        ValueError: Each worker would run the same elements.
        TypeError: A part of the source cannot be sent to worker processes.
    """
    source.check_workers(workers, copies_source=kind_of(backend).copies_source)
    source.check_portable(workers, backend, start_method)


def check_auto(source: Source, lanes: int | None) -> None:
    """Raise a `ValueError` if the order depends on the number of workers, which "auto" changes.

    Args:
        source: The source.
        lanes: Number of lanes over all ranks; None: one per worker.
    """
    if not source.has_index and lanes is None:
        raise ValueError(
            f'workers="auto" changes the number of workers, and {source.name} is divided by that number: '
            "pass lanes=n, and select the elements by mpqueue.worker_info().shard_id; or pass a number of workers"
        )


def warn_of_unequal_ranks(shard: Shard, epoch_batches: int | None) -> None:
    """Warn, on the first of several ranks, if the ranks may get different numbers of batches of a stream."""
    rank, world = shard
    if world > 1 and not rank and epoch_batches is None:
        warn_caller(
            f"{world} ranks share a stream, and the number of batches of each rank is unknown: if the ranks "
            "synchronise in every step, the rank with the most batches hangs. Pass epoch_batches=n for epochs of n "
            "batches on each rank",
            UserWarning,
        )


def warn_of_idle(lanes: int | None, ranks: Ranks, workers: int) -> None:
    """Warn of workers that are always idle, which would otherwise look as if more workers were needed.

    Args:
        lanes: Number of lanes of a stream over all ranks; None: one per worker, or the source has an index.
        ranks: The batches that are dealt here.
        workers: Number of workers.
    """
    world = ranks.lane_shard.world
    if lanes is None or workers <= lanes // world:
        return
    here = lanes // world
    of = f" ({here} on each of {world} ranks)" if world > 1 else ""
    enough = -(-workers // here) * lanes
    warn_caller(
        f"{workers} workers run a stream of {count_text(lanes, 'lane')}{of}, and each lane is run by one worker: "
        f"{workers - here} of the workers will be idle. Pass workers={here}; or lanes={enough}, which changes the "
        "order and cannot resume states saved with this one",
        UserWarning,
    )
