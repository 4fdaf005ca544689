"""The placement of workers on nodes. Pure: no processes, no Ray.

A worker is placed on the node with the fewest workers among the nodes with room for one more. If no node has room, it
is placed on the least crowded one. Among equal nodes, the first in the list is chosen. So the same nodes and numbers of
workers always yield the same placement, and workers are distributed as evenly as the room of the nodes allows.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class Room(NamedTuple):
    """A node and the number of workers that it has room for."""

    node: str
    workers: float


def around(own: str, nodes: Iterable[str]) -> list[str]:
    """Return nodes in the filling order of a trainer: its own node, those after it, and those before.

    If trainers on different nodes have fewer workers than there are nodes, they thereby start with different nodes.
    """
    return sorted(nodes, key=lambda node: (node != own, node < own, node))


def spread(num_workers: int, rooms: Sequence[Room]) -> list[str]:
    """Return the node of each worker; ``rooms`` must not be empty."""
    nodes: list[str] = []
    for _ in range(num_workers):
        nodes.append(best(nodes, rooms))
    return nodes


def best(nodes: Iterable[str], rooms: Sequence[Room]) -> str:
    """Return the node for one more worker; ``rooms`` must not be empty.

    Args:
        nodes: The nodes of the existing workers; workers on nodes outside of ``rooms`` do not count.
        rooms: The nodes to choose from.
    """
    load = Counter(nodes)
    free = [room for room in rooms if load[room.node] < room.workers]
    if free:
        return min(free, key=lambda room: load[room.node]).node
    return min(rooms, key=lambda room: (load[room.node] + 1) / max(room.workers, 1)).node


def moves(nodes: Mapping[int, str], rooms: Sequence[Room]) -> dict[int, str]:
    """Return the workers that must move to balance the nodes, each with its new node.

    As few workers as possible move, those with the highest indices first.

    Args:
        nodes: The node of each worker, by its index.
        rooms: The nodes.
    """
    placed, moved = dict(nodes), dict[int, str]()
    while (move := _next_move(placed, rooms)) is not None:
        index, node = move
        placed[index] = moved[index] = node
    return {index: node for index, node in moved.items() if nodes[index] != node}


def _next_move(placed: Mapping[int, str], rooms: Sequence[Room]) -> tuple[int, str] | None:
    """Return the next worker to move from the most crowded node, and its new node; None if the nodes are balanced."""
    if len(rooms) < 2:
        return None
    load = Counter(placed.values())
    crowded = max(rooms, key=lambda room: (_excess(load, room), load[room.node]))
    others = {room.node: room for room in rooms if room is not crowded}
    target = best(placed.values(), list(others.values()))
    is_even = load[crowded.node] - load[target] < 2 and not _excess(load, crowded)
    if is_even or load[target] >= others[target].workers:
        return None
    return max(index for index, node in placed.items() if node == crowded.node), target


def _excess(load: Mapping[str, int], room: Room) -> float:
    """Return the number of workers beyond the room of a node."""
    return max(0.0, load[room.node] - room.workers)
