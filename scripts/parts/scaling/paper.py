"""The model on paper: what each resource would allow if nothing else held it up.

Each bound is a rate of all trainers together, in batches per second; the least is the model's answer. A trainer's own
node brings it batches without the network, so the bound of a network is what comes through it *and* what the trainer's
own workers compute.
"""

from parts.scaling.cluster import Cluster
from parts.scaling.layouts import COPIES_AT_WORKER, COPIES_TO_SEND, Feed, feeds


def bounds(cluster: Cluster) -> dict[str, float]:
    """Return the bound of each resource, by its name."""
    fed = feeds(cluster)
    found: dict[str, float] = {}
    for feed in fed:
        for name, rate in _of_trainer(cluster, feed, fed).items():
            found[name] = found.get(name, 0.0) + rate
    return found


def limit(cluster: Cluster) -> tuple[str, float]:
    """Return the name of the narrowest resource, and its bound."""
    found = bounds(cluster)
    name = min(found, key=lambda name: found[name])
    return name, found[name]


def _of_trainer(cluster: Cluster, feed: Feed, fed: list[Feed]) -> dict[str, float]:
    computed = {node: feed.on(node) / cluster.batch_s for node in {feed.home, *feed.remote}}
    local = computed[feed.home]
    # A node's link and memory are shared by the trainers that it feeds.
    customers = {node: sum(node in other.remote for other in fed) for node in feed.remote}
    through = {
        "link into the trainer": 1 / cluster.link_s,
        "link out of a node": sum(min(computed[node], 1 / cluster.link_s / customers[node]) for node in feed.remote),
        "connection": sum(min(computed[node], 1 / cluster.stream_s) for node in feed.remote),
        "memory": _memory(cluster, feed, fed),
    }
    remote = sum(computed[node] for node in feed.remote)
    found = {"workers": local + remote}
    found |= {name: local + min(remote, rate) for name, rate in through.items()}
    found["interpreter"] = _interpreter(cluster, local, remote)
    if cluster.step_s:
        found["training step"] = 1 / (cluster.record_s + cluster.step_s)
    return found


def _memory(cluster: Cluster, feed: Feed, fed: list[Feed]) -> float:
    """Return the batches from other nodes that the memory of the trainer's node takes beside its workers' own work."""
    own = sum(
        other.on(feed.home) / cluster.batch_s * (COPIES_AT_WORKER + COPIES_TO_SEND * (other.home != feed.home))
        for other in fed
    )
    return max(0.0, (1 / cluster.copy_s - own) / cluster.copies)


def _interpreter(cluster: Cluster, local: float, remote: float) -> float:
    """Return the batches that the trainer's interpreter hands out: those of its own node first, which cost less."""
    if not cluster.record_s:
        return local + (min(remote, 1 / cluster.relay_s) if cluster.relay_s else remote)
    near = min(local, 1 / cluster.record_s)
    left_s = 1 - near * cluster.record_s
    return near + min(remote, left_s / (cluster.record_s + cluster.relay_s))
