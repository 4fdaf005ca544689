"""The Ray cluster of this process: joining it, and its nodes.

Only this module and `mpqueue.backends.ray.agents` import Ray, and only for ``backend="ray"``.
"""

import os
from typing import Any, NamedTuple

from mpqueue.errors import ClusterError
from mpqueue.plan.options.ray_options import RayOptions
from mpqueue.system.log import warn

_HOW = (
    'start a cluster (`ray start --head`) and call ray.init(address="auto") first, or set RAY_ADDRESS. A local '
    "ray.init() also works, but is slower than worker processes"
)
_CLIENT = (
    'backend="ray" must run on a node of the cluster, because batches are sent directly from the nodes to this '
    "process; Ray Client (ray://) does not. Run the program on a node, for example with `ray job submit`"
)

_warned: set[str] = set()


class Node(NamedTuple):
    """A node of the cluster.

    Attributes:
        id: Its id in Ray.
        address: Its IP address.
        resources: Its total resources, by name.
    """

    id: str
    address: str
    resources: dict[str, float]

    @property
    def name(self) -> str:
        """The name of the node in messages."""
        return f"{self.address} ({self.id[:8]})"


def join() -> None:
    """Join a cluster, if the program has not: the one that RAY_ADDRESS names.

    Raises:
        ClusterError: No cluster was found, or it can only be reached through Ray Client.
    """
    import ray

    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS", "")
        if address.startswith("ray://"):
            raise ClusterError(f"RAY_ADDRESS is {address!r}: {_CLIENT}")
        if not address or address == "local":
            raise ClusterError(f'backend="ray" requires a cluster, but Ray is not initialized: {_HOW}')
        try:
            ray.init(address=address)
        except Exception as error:
            raise ClusterError(
                f"the cluster at RAY_ADDRESS={address!r} cannot be joined: {error}. Check the address, or {_HOW}"
            ) from error
    if ray.util.client.ray.is_connected():
        raise ClusterError(_CLIENT)
    _warn_of_strangers()


def _warn_of_strangers() -> None:
    """Warn once if other machines can send code to the cluster."""
    import ray

    address = ray.util.get_node_ip_address()
    if address.startswith("127.") or address == "::1" or _has_tokens() or address in _warned:
        return
    _warned.add(address)
    warn(
        f"the Ray cluster listens at {address} without token authentication: anyone who can reach it can run code on "
        "its nodes. Start it with RAY_AUTH_MODE=token (see `ray get-auth-token --generate`), or in a private network"
    )


def _has_tokens() -> bool:
    try:
        from ray._private.authentication.authentication_utils import is_token_auth_enabled
    except ImportError:  # an older Ray, without tokens
        return False
    return bool(is_token_auth_enabled())


def own_node() -> str:
    """Return the id of the node of this process."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def living_nodes() -> list[Node]:
    """Return the running nodes, according to Ray, in a fixed order."""
    import ray

    return sorted(
        Node(node["NodeID"], node["NodeManagerAddress"], dict(node["Resources"]))
        for node in ray.nodes()
        if node["Alive"]
    )


def room_on(node: Node, options: RayOptions) -> float:
    """Return how many workers fit on a node in total; 0 if it cannot run any."""
    bundle = bundles_of(options.scheduling_strategy)
    if bundle is not None and node.id not in bundle:
        return 0
    pinned = getattr(options.scheduling_strategy, "node_id", None)
    if pinned is not None and pinned != node.id:
        return 0
    required = {**options.resources, "CPU": 1 if options.num_cpus is None else options.num_cpus}
    room = float("inf")
    for name, amount in required.items():
        if amount:
            # Not `//`: 1.0 // 0.1 is 9. Ray counts resources in units of 0.0001.
            room = min(room, (node.resources.get(name, 0) / amount + 1e-6) // 1)
    return room


def bundles_of(strategy: Any) -> dict[str, int] | None:
    """Return the nodes of a placement group, each with one of its bundles; None without a group."""
    group = getattr(strategy, "placement_group", None)
    if group is None:
        return None
    from ray.util.placement_group import placement_group_table

    chosen = strategy.placement_group_bundle_index
    nodes = placement_group_table(group)["bundles_to_node_id"]
    return {node: bundle for bundle, node in sorted(nodes.items(), reverse=True) if chosen in (-1, bundle)}
