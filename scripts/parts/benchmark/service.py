"""One server for many trainers: a server with consumers in other processes, compared with separate loaders.

Trainers only take the batches, and do not read them.
"""

import dataclasses
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import mpqueue
from parts.benchmark import service_peers
from parts.benchmark.footprint import MB
from parts.benchmark.served import Served, served
from parts.benchmark.service_attach import attaching
from parts.benchmark.trainers import running_trainers
from parts.benchmark.workloads import WORKLOADS, SourceOf

NUM_CONSUMERS = 4
OURS, ONE_CONSUMER, ONE_LOADER, OWN_LOADERS = "mpqueue", "one consumer", "one loader", "own loaders"
RING = "ring MB"


@dataclasses.dataclass(frozen=True)
class ServiceWorkload(SourceOf):
    """A server with consumers, and its peers.

    Attributes:
        about: Description for the report.
        source: Name of the source in `WORKLOADS`.
        mode: Mode of the server; "" if no rate is measured.
        consumers: Number of consumers; several consumers of a split are ranks.
        peers: The peers to measure.
    """

    mode: str = ""
    consumers: int = NUM_CONSUMERS
    peers: tuple[str, ...] = (OURS,)


SERVICE = {
    "service attach": ServiceWorkload("from attach to the first batch", "tiny", consumers=1),
    "service tiny": ServiceWorkload("tiny batches to one consumer", "tiny", "split", 1, (OURS, ONE_LOADER)),
    "service broadcast": ServiceWorkload(
        "(32, 224, 224, 3) float32 to 4 consumers, all together", "image in place", "broadcast",
        peers=(OURS, ONE_CONSUMER),
    ),
    "service decode": ServiceWorkload(
        "32 JPEG files to 4 trainers, all together", "decode", "broadcast", peers=(OURS, OWN_LOADERS)
    ),
    "service split": ServiceWorkload("32 JPEG files split over 4 ranks", "decode", "split", peers=(OURS, ONE_LOADER)),
    "service split small": ServiceWorkload(
        "(32, 64, 64, 3) uint8 split over 4 ranks", "small in place", "split", peers=(OURS, ONE_LOADER)
    ),
    "service peers": ServiceWorkload(
        "(32, 64, 64, 3) uint8 to 4 consumers, all together", "small", "broadcast", peers=(OURS, *service_peers.PEERS)
    ),
}  # fmt: skip


def ways(workload: str) -> list[str]:
    """Return the peers that can be measured here: none on systems without the service."""
    absent = service_peers.absent()
    return [name for name in SERVICE[workload].peers if sys.platform == "linux" and name not in absent]


def service_figures(workload: str, name: str, num_workers: int, seconds: float) -> dict[str, list[float]]:
    """Measure one peer.

    Returns:
        Figures by name: ``rate`` in batches per second of all consumers together, and others.
    """
    if workload == "service attach":
        return attaching(num_workers)
    known = SERVICE[workload]
    if name in service_peers.PEERS:
        return {"rate": [_rate_of_peer(known, name, num_workers, seconds)]}
    if name in (ONE_LOADER, OWN_LOADERS):
        return {"rate": [_rate_of_loaders(known, 1 if name == ONE_LOADER else known.consumers, num_workers, seconds)]}
    return _of_server(known, 1 if name == ONE_CONSUMER else known.consumers, num_workers, seconds)


def _of_server(known: ServiceWorkload, consumers: int, num_workers: int, seconds: float) -> dict[str, list[float]]:
    source = WORKLOADS[known.source]
    world = consumers if consumers > 1 or known.mode == "broadcast" else None
    options: dict[str, Any] = {"mode": known.mode, "world": world, "workers": num_workers}
    with (
        served(source.make, **options, max_queue_size=source.ahead) as server,
        running_trainers(consumers, partial(_attached, server, options)) as trainers,
    ):
        rate = trainers.rate(source.ahead, seconds)
        return {"rate": [rate], RING: [server.ring_bytes() / MB]}


def _attached(server: Served, options: dict[str, Any], which: int) -> Iterator[Any]:
    is_ranked = options["mode"] == "split" and options["world"] is not None
    return server.batches(which if is_ranked else None)


def _rate_of_loaders(known: ServiceWorkload, number: int, num_workers: int, seconds: float) -> float:
    """Return the rate of trainers with separate loaders, which share the workers, at least one each."""
    source = WORKLOADS[known.source]

    def batches(_which: int) -> Iterator[Any]:
        with mpqueue.Loader(
            source.make(), workers=max(1, num_workers // number), max_queue_size=source.ahead
        ) as loader:
            yield from loader

    with running_trainers(number, batches) as trainers:
        return trainers.rate(source.ahead, seconds)


def _rate_of_peer(known: ServiceWorkload, name: str, num_workers: int, seconds: float) -> float:
    source = WORKLOADS[known.source]
    _, peer = service_peers.PEERS[name]
    (array,) = source.make().arrays
    feed = peer(array, known.consumers, num_workers, source.ahead)
    with feed as batches, running_trainers(known.consumers, batches) as trainers:
        return trainers.rate(source.ahead, seconds)
