"""Combinations of a source, a backend and options that are refused: each one a condition and its message.

The first rule that applies raises. A check of one value alone belongs to the table in `mpqueue.plan.options`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from mpqueue.plan.backend_kinds import BackendName, kind_of
from mpqueue.plan.options import Options
from mpqueue.plan.sources import Source


class Rule(NamedTuple):
    """One combination that is refused.

    Attributes:
        applies: Returns whether a subject (a source, a backend) and options are such a combination.
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
    """Raise the error of the first rule about options alone that applies."""
    _check(OPTION_RULES, None, options)


def check(source: Source, options: Options) -> None:
    """Raise the error of the first rule about a source that applies."""
    _check(SOURCE_RULES, source, options)


def check_backend(backend: BackendName, options: Options) -> None:
    """Raise the error of the first rule about a backend that applies.

    Raises:
        ValueError: There is no such backend, or an option has no effect with it.
        ImportError: The backend is "ray", and Ray is not installed.
    """
    kind_of(backend)
    _check(BACKEND_RULES, backend, options)
    if not kind_of(backend).is_local:
        from mpqueue.plan.ray_options import check_installed  # most have no Ray

        check_installed()


def _of_batch_sampler(options: Options) -> list[str]:
    others = {"batch_size": options.batch_size, "sampler": options.sampler, "drop_last": options.drop_last or None}
    return [name for name, value in others.items() if value is not None]


OPTION_RULES = [
    Rule(
        lambda _, options: options.batch_sampler is not None and bool(_of_batch_sampler(options)),
        lambda _, options: (
            f"batch_sampler says all about the batches, and excludes {', '.join(_of_batch_sampler(options))}"
        ),
    ),
    Rule(
        lambda _, options: options.collate is not None and not options.are_samples,
        lambda *_: "collate makes batches of samples: pass batch_size (or batch_sampler), too",
    ),
    Rule(
        lambda _, options: options.drop_last and options.batch_size is None and options.shard is None,
        lambda *_: "drop_last is about a last batch that is short: pass batch_size, too",
    ),
    Rule(
        lambda _, options: options.max_errors is not None and options.on_error != "skip",
        lambda *_: 'max_errors bounds what on_error="skip" leaves out: pass both, or neither',
    ),
]


def _only_for_local_processes(name: str) -> Rule:
    def applies(backend: BackendName, options: Options) -> bool:
        kind = kind_of(backend)
        return isinstance(getattr(options, name), str) and not (kind.in_processes and kind.is_local)

    return Rule(
        applies,
        lambda backend, _: (
            f'{name}="auto" is about worker processes of this machine, and this is backend={backend!r}: pass a number'
        ),
    )


BACKEND_RULES = [
    Rule(
        lambda backend, options: options.ray_options is not None and kind_of(backend).is_local,
        lambda backend, _: f'ray_options is about backend="ray", got backend={backend!r}: leave it out',
    ),
    Rule(
        lambda backend, options: options.start_method == "fork" and not kind_of(backend).is_local,
        lambda *_: (
            'start_method="fork" forks this process, which is on one machine only: leave it out with backend="ray"'
        ),
    ),
    Rule(
        lambda backend, options: not (kind_of(backend).in_processes or options.may_fall_back),
        lambda backend, options: (
            f"start_method={options.start_method!r} is about worker processes, and backend={backend!r} has none: "
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
            f"{name}={getattr(options, name)} is about streams, whose elements have no numbers (generator functions, "
            f"datasets behind a filter or a buffer), and {source.name} has __getitem__ and __len__: its batches are "
            "dealt by their numbers, its epochs end with them. Leave it out"
        ),
    )


def _threads(options: Options) -> str:
    return f"threads={options.threads}" if options.threads != "auto" else 'threads="auto"'


def _why_not_threads(source: Source, options: Options) -> str | None:
    is_asked = options.threads not in {1, "auto"}
    return source.why_not_threads(int(options.threads)) if is_asked else None


SOURCE_RULES = [
    Rule(
        lambda source, options: options.shuffle and not source.has_index,
        lambda *_: "shuffle needs a source with __getitem__ and __len__: a generator has an order of its own",
    ),
    Rule(
        lambda source, options: options.is_sampled and not source.has_index,
        lambda *_: "a sampler needs a source with __getitem__: a generator has an order of its own",
    ),
    Rule(
        lambda source, options: options.drop_last and options.batch_size is None and not source.has_index,
        lambda *_: "drop_last is about a last batch that is short: pass batch_size, too",
    ),
    Rule(
        lambda _, options: options.is_sampled and options.shuffle,
        lambda _, options: (
            f"a {'sampler' if options.batch_sampler is None else 'batch_sampler'} gives the order, and excludes shuffle"
        ),
    ),
    _only_for_streams("lanes"),
    _only_for_streams("epoch_batches"),
    Rule(
        lambda source, options: options.threads != 1 and not source.has_index,
        lambda source, options: (
            f"{_threads(options)} computes the samples of a batch by their indices, and the elements of {source.name}, "
            "a stream, come one after the other. Of a mpqueue.Dataset, the stage that waits takes it: map(function, "
            "threads=n)"
        ),
    ),
    Rule(
        lambda _, options: options.threads != 1 and not options.are_samples,
        lambda _, options: (
            f"{_threads(options)} computes the samples of a batch side by side, and an item of the source is a batch "
            "here: pass batch_size, for a source of samples; or use more workers"
        ),
    ),
    Rule(
        lambda source, options: _why_not_threads(source, options) is not None,
        lambda source, options: _why_not_threads(source, options) or "",
    ),
]
