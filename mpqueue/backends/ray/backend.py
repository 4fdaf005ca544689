"""The backend of worker processes on the nodes of a Ray cluster."""

from dataclasses import replace
from functools import partial

from mpqueue.backends.job import Job
from mpqueue.backends.processes.process import ProcessBackend
from mpqueue.backends.processes.source_sync import SourceSync
from mpqueue.backends.ray import connect as joining
from mpqueue.backends.ray.launcher import ClusterLauncher
from mpqueue.backends.sending.source_watch import SourceWatch
from mpqueue.engine.ledger import Ledger
from mpqueue.plan.options.backend_kinds import BackendName
from mpqueue.plan.options.ray_options import RayOptions
from mpqueue.system.signals.deferred import allow_signals
from mpqueue.telemetry.stats import NodeStatistics, Statistics


class ClusterBackend(ProcessBackend):
    """A pool of worker processes on several machines. It adds a launcher for clusters and statistics per node."""

    may_begin_ahead = False

    def statistics(self) -> Statistics:
        """Return the counters, in total and per node."""
        launcher = self.pool.roster.launcher
        statistics = super().statistics()
        return replace(statistics, nodes=self._nodes(launcher)) if isinstance(launcher, ClusterLauncher) else statistics

    def _nodes(self, launcher: ClusterLauncher) -> tuple[NodeStatistics, ...]:
        counts = launcher.counts(self.supervision.deaths_on)
        own = counts.pop(launcher.own, None)
        nodes = list(counts.values())
        if own is not None:  # all batches that did not arrive over a link are its own
            tallies = self.dispatcher.tallies
            batches = sum(tally.batches for tally in tallies) - sum(node.batches for node in nodes)
            nbytes = sum(tally.num_bytes for tally in tallies) - sum(node.bytes for node in nodes)
            nodes.insert(0, replace(own, batches=max(0, batches), bytes=max(0, nbytes)))
        return tuple(nodes)


def make_backend(_name: BackendName, ledger: Ledger, _lock: object, job: Job) -> ClusterBackend:
    """Return a new backend that is not started yet.

    Args:
        ledger: The ledger of work items.
        job: The job of the workers.

    Raises:
        TypeError: The source cannot be pickled; it could only be inherited by fork, on one machine.
        ClusterError: Ray is not initialized, and RAY_ADDRESS names no cluster.
    """
    allow_signals(joining.join)
    watch = SourceWatch(job.payload, is_local=False)
    image = allow_signals(watch.take_image)
    spawn = job.options.start_method == "spawn"
    launcher = partial(ClusterLauncher, job.workers, RayOptions.of(job.options.ray_options), spawn=spawn)
    return ClusterBackend(ledger, SourceSync(watch, image, spawn=spawn, make_launcher=launcher), job)
