"""Single samples that become batches: by mpqueue's `Loader`, and by the peers that load samples.

The samples of some workloads wait. There, mpqueue uses coroutines or threads.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from parts.benchmark.consuming import rate
from parts.benchmark.feeds import PEERS
from parts.benchmark.workload import Figures, Peer, Setting, Workload
from parts.benchmark.workloads import sample_sources as sources


@dataclasses.dataclass(frozen=True, kw_only=True)
class Samples(Workload):
    """A source of samples.

    Attributes:
        make: Creates the source.
        batch_size: Number of samples per batch.
        ahead: Number of batches to compute ahead.
        collate: Function that makes a batch of samples; None for the function of each feed.
        make_async: Creates the same source for an event loop; None if unsupported.
        at_once: Number of samples that each worker computes at once. Peers without such an option get more workers.
        patience: Factor for the duration, if batches arrive in bursts: workers that start together end together.
    """

    make: Callable[[], Any]
    batch_size: int = 32
    ahead: int = 10
    collate: Callable[[list[Any]], Any] | None = None
    make_async: Callable[[], Any] | None = None
    at_once: int = 1
    patience: float = 1

    def figures(self, name: str, setting: Setting) -> Figures:
        """Return the rate of a peer."""
        PEERS[name].load()
        feed = PEERS[name].samples
        assert feed is not None
        with feed(self, setting.num_workers) as batches:
            return rate(batches, self.ahead, self.patience * setting.seconds)


def _but(*names: str) -> dict[str, Peer]:
    """Return the peers that load samples, without some."""
    return {name: peer for name, peer in PEERS.items() if peer.samples is not None and name not in names}


def _program(about: str, make: Callable[[], Any], **options: Any) -> Samples:
    peers, collate = _but("mpqueue threads", "asyncio", "grain"), sources.stack_arrays
    return Samples(about, "samples/s", 32, make=make, readers=peers, collate=collate, **options)


def _waiting(about: str, make: Callable[[], Any], make_async: Callable[[], Any], **options: Any) -> Samples:
    options = {
        "at_once": sources.AT_ONCE,
        "readers": _but("grain", "spdl", "turboloader"),
        "patience": 3,
    } | options
    size, collate = options.get("batch_size", 32), sources.stack_arrays
    return Samples(about, "samples/s", size, make=make, make_async=make_async, collate=collate, **options)


_ORDINARY = _but("mpqueue threads", "asyncio")
WORKLOADS = {
    "samples": Samples("32 samples of (224, 224, 3) uint8", make=sources.Images, readers=_ORDINARY),
    "small samples": Samples(
        "256 samples of (16,) float32 with a label",
        make=sources.Rows,
        batch_size=256,
        ahead=32,
        readers=_ORDINARY,
    ),
    # The workloads of dataloader-rs. Its benchmark collates like this and runs four times the workers for requests.
    "program files": _program("samples of files of 128 KB, normalised to float32", sources.LocalFiles),
    "program images": _program("samples cropped to (3, 224, 224), flipped, normalised", sources.Augmented),
    "program requests": _program(
        "samples that wait 10 ms, 4 per worker at once", sources.Requests, at_once=4, patience=5
    ),
    "program words": _program("samples of 360 words, tokenised three times in Python", sources.Words),
    "waiting files": _waiting("samples of files of 128 KB", sources.LocalFiles, sources.AsyncFiles),
    "waiting images": _waiting("samples cropped, flipped, normalised", sources.Augmented, sources.AsyncImages),
    "waiting requests": _waiting("answers of 1 KB after 10 ms", sources.Answers, sources.AsyncAnswers),
    "waiting requests and python": _waiting(
        "the same, and 2 ms of Python for each", sources.AnswersAndPython, sources.AsyncAnswersAndPython
    ),
    "waiting sleeps": _waiting(
        "numbers after 10 ms",
        sources.Sleeps,
        sources.AsyncSleeps,
        at_once=4096,
        batch_size=256,
        readers=_but("mpqueue threads", "torch", "grain", "spdl", "turboloader"),
    ),
}
