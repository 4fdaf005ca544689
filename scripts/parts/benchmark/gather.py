"""A collector of the results of all rounds."""

import collections
from typing import Any

from parts.benchmark.feeds import OURS
from parts.benchmark.files import PER_CPU
from parts.benchmark.measure import Measurement
from parts.benchmark.peers import missing
from parts.benchmark.ray_peers import PEERS as RAY_PEERS
from parts.benchmark.results import Results
from parts.benchmark.service_peers import PEERS as SERVICE_PEERS


class Gathered:
    """A collector of results and failures of measurements.

    Args:
        requested: The requested feeds. The report lists the ones that are not installed.
        num_workers: Number of workers in the measurements.
        without_ray: Requested workloads that need Ray, which is not installed.
    """

    def __init__(self, requested: list[str], num_workers: int, without_ray: tuple[str, ...] = ()) -> None:
        self._asked, self._num_workers, self._without_ray = requested, num_workers, without_ray
        self._rates: Any = collections.defaultdict(list)
        self._costs: Any = collections.defaultdict(lambda: collections.defaultdict(list))
        self._first_batches: Any = collections.defaultdict(list)
        self._starts: Any = collections.defaultdict(list)
        self._memory: Any = collections.defaultdict(list)
        self._service: Any = collections.defaultdict(lambda: collections.defaultdict(list))
        self._failed: dict[tuple[str, str], str] = {}
        self._left_out: list[str] = []

    def is_hopeless(self, one: Measurement) -> bool:
        """Return whether a measurement failed before, so that it need not be repeated."""
        return (one.workload, one.name) in self._failed

    def add(self, one: Measurement, found: Any) -> None:
        """Store the result of a measurement."""
        if one.what in ("latency", "starts"):
            self._add_lists(self._first_batches if one.what == "latency" else self._starts, found)
        elif one.what == "memory":
            self._add_lists(self._memory, {name: [value] for name, value in found.items()})
        elif one.what in ("service", "ray", "seen", "balance", "blocks", "sparse", "cache"):
            if "rate" in found:
                self._rates[one.workload, one.name] += found.pop("rate")
            if found:
                self._add_lists(self._service[one.workload, one.name], found)
        elif one.what == "files":
            self._rates[one.workload, one.name].append(found["rate"])
            if "per_cpu" in found:
                self._rates[one.workload + PER_CPU, one.name].append(found["per_cpu"])
        elif one.what == "records":
            for name, rate in found.items():
                self._rates[one.workload, name].append(rate)
        elif one.what == "feed":
            self._rates[one.workload, one.name].append(found.pop("rate"))
            self._add_lists(self._costs[one.workload, one.name], {name: [value] for name, value in found.items()})
        else:
            self._rates[one.workload, one.name].append(found)

    def add_failure(self, one: Measurement, error: RuntimeError) -> None:
        """Store the reason of a peer's failure, and discard its results of earlier rounds.

        Raises:
            RuntimeError: mpqueue or a floor failed, which is not allowed.
        """
        own = {
            "service": SERVICE_PEERS, "ray": RAY_PEERS, "balance": (), "training": (), "blocks": (), "sparse": (),
            "cache": (),
        }  # fmt: skip
        peers = own.get(one.what)
        if one.name in OURS or one.what == "floor" or (peers is not None and one.name not in peers):
            raise error
        self._failed[one.workload, one.name] = _last_line(error)
        self._rates.pop((one.workload, one.name), None)
        self._rates.pop((one.workload + PER_CPU, one.name), None)
        self._costs.pop((one.workload, one.name), None)
        self._service.pop((one.workload, one.name), None)

    def add_broken_round(self, number: int, error: RuntimeError) -> None:
        """Store the reason why a round, counted from 1, was not finished."""
        self._failed[f"round {number}", "the round"] = _last_line(error)

    def add_left_out(self, measurements: list[Measurement]) -> None:
        """Store the measurements of the first round that did not fit into the time limit."""
        self._left_out += [f"{one.workload}: {one.name}" for one in measurements]

    def results(self) -> Results:
        """Return all results."""
        return Results(
            dict(sorted(self._rates.items(), key=lambda item: item[0][0].endswith(PER_CPU))),
            dict(self._first_batches),
            costs={key: dict(found) for key, found in self._costs.items()},
            memory=dict(self._memory),
            service={key: dict(found) for key, found in self._service.items()},
            missing=tuple(missing(self._asked)),
            without_ray=self._without_ray,
            failed=self._failed,
            starts=dict(self._starts),
            left_out=tuple(self._left_out),
            num_workers=self._num_workers,
        )

    @staticmethod
    def _add_lists(to: dict[str, list[float]], found: dict[str, list[float]]) -> None:
        for name, values in found.items():
            to[name] += values


def _last_line(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[-1]
