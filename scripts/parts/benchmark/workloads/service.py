"""One server for many trainers: a server with consumers in other processes, compared with separate loaders.

Trainers only take the batches, and do not read them.
"""

import dataclasses
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from typing import Any

import mpqueue
from parts.benchmark.library import Library
from parts.benchmark.workload import RATE, Figures, Setting
from parts.benchmark.workloads.batches import Batches, SourceOf, of
from parts.benchmark.workloads.service_peers import PEERS, Peer
from parts.benchmark.workloads.trainers import running_trainers
from parts.children import forks

NUM_CONSUMERS = 4
ATTACH_S = 60.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Service(SourceOf):
    """A server with consumers.

    Attributes:
        mode: Mode of the server.
        consumers: Number of consumers; several consumers of a split are ranks.
    """

    mode: str
    consumers: int = NUM_CONSUMERS

    def is_installed(self, name: str) -> bool:
        """Return whether a library can be measured: none on systems without the service."""
        return sys.platform == "linux" and super().is_installed(name)

    def figures(self, name: str, setting: Setting) -> Figures:
        """Return the rate of all consumers together."""
        figures: Figures = self.readers[name].feed(self, setting)
        return figures


def _of_server(known: Service, setting: Setting, consumers: int | None = None) -> Figures:
    source, consumers = known.source, consumers or known.consumers
    world = consumers if consumers > 1 or known.mode == "broadcast" else None
    options: dict[str, Any] = {"mode": known.mode, "world": world, "workers": setting.num_workers}
    with tempfile.TemporaryDirectory(prefix="mpqueue-") as folder:
        name = f"{folder}/server"
        with (
            forks(_serve, [(name, source, options)]),
            running_trainers(
                consumers, partial(_attached, name, is_ranked=known.mode == "split" and world is not None)
            ) as trainers,
        ):
            return {RATE: [trainers.rate(source.ahead, setting.seconds)]}


def _serve(name: str, source: Batches, options: dict[str, Any]) -> None:
    with mpqueue.Server(name, source.make(), **options, max_queue_size=source.ahead) as server:
        server.wait()


def _attached(name: str, which: int, *, is_ranked: bool) -> Iterator[Any]:
    with mpqueue.attach(name, rank=which if is_ranked else None, timeout=ATTACH_S) as consumer:
        yield from consumer


def _of_loaders(known: Service, setting: Setting, number: int | None = None) -> Figures:
    """Measure trainers with separate loaders, which share the workers, at least one each."""
    source, number = known.source, number or known.consumers
    workers = max(1, setting.num_workers // number)

    def batches(_which: int) -> Iterator[Any]:
        with mpqueue.Loader(source.make(), workers=workers, max_queue_size=source.ahead) as loader:
            yield from loader

    with running_trainers(number, batches) as trainers:
        return {RATE: [trainers.rate(source.ahead, setting.seconds)]}


def _of_peer(known: Service, setting: Setting, *, peer: Peer) -> Figures:
    (array,) = known.source.make().arrays
    feed = peer(array, known.consumers, setting.num_workers, known.source.ahead)
    with feed as batches, running_trainers(known.consumers, batches) as trainers:
        return {RATE: [trainers.rate(known.source.ahead, setting.seconds)]}


_OURS = Library(_of_server)
_OR_ONE_LOADER = {"mpqueue": _OURS, "one loader": Library(partial(_of_loaders, number=1))}
WORKLOADS = {
    "service tiny": Service(
        "tiny batches to one consumer", **of("tiny"), mode="split", consumers=1, readers=_OR_ONE_LOADER
    ),
    "service broadcast": Service(
        "(32, 224, 224, 3) float32 to 4 consumers, all together",
        **of("image in place"),
        mode="broadcast",
        readers={"mpqueue": _OURS, "one consumer": Library(partial(_of_server, consumers=1))},
    ),
    "service decode": Service(
        "32 JPEG files to 4 trainers, all together",
        **of("decode"),
        mode="broadcast",
        readers={"mpqueue": _OURS, "own loaders": Library(_of_loaders)},
    ),
    "service split": Service("32 JPEG files split over 4 ranks", **of("decode"), mode="split", readers=_OR_ONE_LOADER),
    "service split small": Service(
        "(32, 64, 64, 3) uint8 split over 4 ranks", **of("small in place"), mode="split", readers=_OR_ONE_LOADER
    ),
    "service peers": Service(
        "(32, 64, 64, 3) uint8 to 4 consumers, all together",
        **of("small"),
        mode="broadcast",
        readers={"mpqueue": _OURS}
        | {name: Library(partial(_of_peer, peer=peer), package) for name, (package, peer) in PEERS.items()},
    ),
}
