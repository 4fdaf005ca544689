"""Invalid combinations of a source, a backend and options: each one a condition and its error message.

The first rule that applies raises. Checks of a single value are in the table of `mpqueue.plan.options`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from mpqueue.plan.backend_kinds import BackendName, kind_of
from mpqueue.plan.options import Options
from mpqueue.plan.sources import Source


class Rule(NamedTuple):
    """An invalid combination.

    Attributes:
        applies: Returns whether a subject (a source, a backend) and options form this combination.
        message: Returns the error message for them.
        error: The class of the error.
    """

    applies: Callable[[Any, Options], bool]
    message: Callable[[Any, Options], str]
    error: type[Exception] = ValueError


def _check(rules: list[Rule], subject: Any, options: Options) -> None:
    for rule in rules:
        if rule.applies(subject, options):
            raise rule.error(rule.message(subject, options))


def check_options(options: Options) -> None:
    """Raise the error of the first rule that these options violate."""
    _check(OPTION_RULES, None, options)


def check(source: Source, options: Options) -> None:
    """Raise the error of the first rule that a source and options violate."""
    _check(SOURCE_RULES, source, options)


def check_backend(backend: BackendName, options: Options) -> None:
    """Raise the error of the first rule that a backend and options violate.

    Raises:
        ValueError: The backend does not exist, or an option has no effect with it.
        ImportError: The backend is "ray", and Ray is not installed.
    """
    kind_of(backend)
    _check(BACKEND_RULES, backend, options)
    if not kind_of(backend).is_local:
        from mpqueue.plan.ray_options import check_installed  # imported here: most programs do not use Ray

        check_installed()


def _excluded_by_batch_sampler(options: Options) -> list[str]:
    others = {"batch_size": options.batch_size, "sampler": options.sampler, "drop_last": options.drop_last or None}
    return [name for name, value in others.items() if value is not None]


OPTION_RULES = [
    Rule(
        lambda _, options: options.batch_sampler is not None and bool(_excluded_by_batch_sampler(options)),
        lambda _, options: (
            f"batch_sampler determines the batches, and excludes {', '.join(_excluded_by_batch_sampler(options))}"
        ),
    ),
    Rule(
        lambda _, options: options.collate is not None and not options.are_samples,
        lambda *_: "collate makes batches of samples: pass batch_size (or batch_sampler), too",
    ),
    Rule(
        lambda _, options: options.drop_last and options.batch_size is None and options.shard is None,
        lambda *_: "drop_last applies to a short last batch: pass batch_size, too",
    ),
    Rule(
        lambda _, options: options.max_errors is not None and options.on_error != "skip",
        lambda *_: 'max_errors limits the samples that on_error="skip" leaves out: pass both, or neither',
    ),
]


def _only_for_local_processes(name: str) -> Rule:
    def applies(backend: BackendName, options: Options) -> bool:
        kind = kind_of(backend)
        return isinstance(getattr(options, name), str) and not (kind.in_processes and kind.is_local)

    return Rule(
        applies,
        lambda backend, _: (
            f'{name}="auto" needs worker processes on this machine, got backend={backend!r}: pass an integer'
        ),
    )


BACKEND_RULES = [
    Rule(
        lambda backend, options: options.ray_options is not None and kind_of(backend).is_local,
        lambda backend, _: f'ray_options needs backend="ray", got backend={backend!r}: leave it out',
    ),
    Rule(
        lambda backend, options: options.start_method == "fork" and not kind_of(backend).is_local,
        lambda *_: (
            'start_method="fork" forks this process, so all workers would run on this machine: leave it out with '
            'backend="ray"'
        ),
    ),
    Rule(
        lambda backend, options: not (kind_of(backend).in_processes or options.may_fall_back),
        lambda backend, options: (
            f"start_method={options.start_method!r} needs worker processes, and backend={backend!r} has no processes: "
            'leave it out, or use backend="process"'
        ),
    ),
    _only_for_local_processes("workers"),
    _only_for_local_processes("threads"),
]


def _only_for_streams(name: str) -> Rule:
    return Rule(
        lambda source, options: getattr(options, name) is not None and source.has_index,
        lambda source, options: (
            f"{name}={getattr(options, name)} applies to streams (generator functions, datasets after a filter or a "
            f"buffer), and {source.name} has __getitem__ and __len__: its batches are numbered, and an epoch ends with "
            "the last one. Leave it out"
        ),
    )


def _threads(options: Options) -> str:
    return f"threads={options.threads}" if options.threads != "auto" else 'threads="auto"'


def _why_not_threads(source: Source, options: Options) -> str | None:
    is_passed = options.threads not in {1, "auto"}
    return source.why_not_threads(int(options.threads)) if is_passed else None


SOURCE_RULES = [
    Rule(
        lambda source, options: options.shuffle and not source.has_index,
        lambda *_: "shuffle needs a source with __getitem__ and __len__: a generator determines its own order",
    ),
    Rule(
        lambda source, options: options.is_sampled and not source.has_index,
        lambda *_: "a sampler needs a source with __getitem__: a generator determines its own order",
    ),
    Rule(
        lambda source, options: options.drop_last and options.batch_size is None and not source.has_index,
        lambda *_: "drop_last applies to a short last batch: pass batch_size, too",
    ),
    Rule(
        lambda _, options: options.is_sampled and options.shuffle,
        lambda _, options: (
            f"a {'sampler' if options.batch_sampler is None else 'batch_sampler'} determines the order, and excludes "
            "shuffle"
        ),
    ),
    _only_for_streams("lanes"),
    _only_for_streams("epoch_batches"),
    Rule(
        lambda source, options: options.threads != 1 and not source.has_index,
        lambda source, options: (
            f"{_threads(options)} computes the samples of a batch by their indices, and {source.name} is a stream, "
            "whose elements have no index. Use threads in the slow stage of a mpqueue.Dataset instead: map(function, "
            "threads=n)"
        ),
    ),
    Rule(
        lambda _, options: options.threads != 1 and not options.are_samples,
        lambda _, options: (
            f"{_threads(options)} computes the samples of a batch in parallel, and each item of the source is already "
            "a batch: pass batch_size, for a source of samples; or use more workers"
        ),
    ),
    Rule(
        lambda source, options: _why_not_threads(source, options) is not None,
        lambda source, options: _why_not_threads(source, options) or "",
    ),
]
