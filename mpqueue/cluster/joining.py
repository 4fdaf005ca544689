"""The Ray cluster that this process is part of: joining it, and its nodes.

Ray is imported here and in `mpqueue.cluster.agents` only, and only when somebody asks for ``backend="ray"``.
"""

import os
from typing import Any, NamedTuple

from mpqueue.errors import ClusterError
from mpqueue.plan.ray_options import RayOptions
from mpqueue.system.log import warn

_HOW = (
    'start a cluster (`ray start --head`) and call ray.init(address="auto") before, or set RAY_ADDRESS. A local '
    "ray.init() works, too, and is slower than worker processes"
)
_CLIENT = (
    'backend="ray" sends batches straight from the nodes to this process, which must be on a node of the cluster; '
    "Ray Client (ray://) is not. Run the program on a node, for instance by `ray job submit`"
)

_warned: set[str] = set()


class Node(NamedTuple):
    """One living node.

    Attributes:
        id: Ray's id of it.
        address: Its IP address.
        resources: What it has in total, by name.
    """

    id: str
    address: str
    resources: dict[str, float]

    @property
    def name(self) -> str:
        """The node, as it is named to people."""
        return f"{self.address} ({self.id[:8]})"


def join() -> None:
    """Be part of a cluster: the one that the program has joined, else the one that RAY_ADDRESS names.

    Raises:
        ClusterError: There is none; or it can only be reached by Ray Client.
    """
    import ray

    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS", "")
        if address.startswith("ray://"):
            raise ClusterError(f"RAY_ADDRESS is {address!r}: {_CLIENT}")
        if not address or address == "local":
            raise ClusterError(f'backend="ray" needs a cluster, and Ray is not initialised: {_HOW}')
        try:
            ray.init(address=address)
        except Exception as error:
            raise ClusterError(
                f"the cluster at RAY_ADDRESS={address!r} cannot be joined: {error}. Else {_HOW}"
            ) from error
    if ray.util.client.ray.is_connected():
        raise ClusterError(_CLIENT)
    _warn_of_strangers()


def _warn_of_strangers() -> None:
    """Warn, once, where others than this machine could send the cluster code to run."""
    import ray

    address = ray.util.get_node_ip_address()
    if address.startswith("127.") or address == "::1" or _has_tokens() or address in _warned:
        return
    _warned.add(address)
    warn(
        f"the Ray cluster listens at {address} without token authentication: whoever can reach it can run code on its "
        "nodes. Start it with RAY_AUTH_MODE=token (see `ray get-auth-token --generate`), or in a network of its own"
    )


def _has_tokens() -> bool:
    try:
        from ray._private.authentication.authentication_utils import is_token_auth_enabled
    except ImportError:  # an older Ray, which has none
        return False
    return bool(is_token_auth_enabled())


def own_node() -> str:
    """Return the id of the node that this process is on."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def living_nodes() -> list[Node]:
    """Return the nodes that are alive, as far as Ray knows, in an order that does not change."""
    import ray

    return sorted(
        Node(node["NodeID"], node["NodeManagerAddress"], dict(node["Resources"]))
        for node in ray.nodes()
        if node["Alive"]
    )


def room_on(node: Node, options: RayOptions) -> float:
    """Return how many workers a node has room for, in total; 0 if it cannot have any."""
    bundle = bundles_of(options.scheduling_strategy)
    if bundle is not None and node.id not in bundle:
        return 0
    pinned = getattr(options.scheduling_strategy, "node_id", None)
    if pinned is not None and pinned != node.id:
        return 0
    wanted = {**options.resources, "CPU": 1 if options.num_cpus is None else options.num_cpus}
    room = float("inf")
    for name, amount in wanted.items():
        if amount:
            room = min(room, node.resources.get(name, 0) // amount)
    return room


def bundles_of(strategy: Any) -> dict[str, int] | None:
    """Return the nodes of a placement group, each with a bundle that is on it; None: there is no group."""
    group = getattr(strategy, "placement_group", None)
    if group is None:
        return None
    from ray.util.placement_group import placement_group_table

    chosen = strategy.placement_group_bundle_index
    nodes = placement_group_table(group)["bundles_to_node_id"]
    return {node: bundle for bundle, node in sorted(nodes.items(), reverse=True) if chosen in (-1, bundle)}
