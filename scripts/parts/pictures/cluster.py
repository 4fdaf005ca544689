"""A trainer with workers on the nodes of a cluster."""

from parts.pictures.svg import Picture


def draw() -> Picture:
    """Return the picture."""
    picture = Picture(
        900,
        420,
        "Workers on the nodes of a cluster",
        "The trainer's node has the ring and may have its own workers. Each other node has one agent, a Ray "
        "actor, with its own fork server, workers and ring. The trainer sends grants to the agent over one "
        "connection; the agent sends reports and the bytes of batches, which are received straight into the slots "
        "of the trainer's ring.",
    )
    picture.rectangle("group", 20, 24, 370, 370, radius=10)
    picture.word("the trainer's node", 205, 44, "note")
    picture.box(
        40,
        60,
        330,
        96,
        "trainer",
        "order, retries and memory, as on one machine",
        "one thread for each node: the relay",
    )
    picture.box(40, 186, 155, 58, "worker 0", "writes into the ring")
    picture.box(215, 186, 155, 58, "worker 1", "writes into the ring")
    picture.rectangle("box", 40, 286, 330, 88, radius=8)
    picture.word("the ring: every batch ends here", 205, 308)
    for slot, state in enumerate(("leased", "ready", "granted", "granted", "free")):
        picture.rectangle(state, 54 + 61 * slot, 322, 56, 34)
        picture.word(state, 82 + 61 * slot, 343, "dark")
    picture.arrow((117, 246), (117, 284))
    picture.arrow((292, 246), (292, 284))
    for number in range(2):
        _draw_node(picture, number, 24 + 190 * number)
    picture.word("Ray places the agents; batches do not pass through it", 645, 412, "note")
    return picture


def _draw_node(picture: Picture, number: int, top: float) -> None:
    picture.rectangle("group", 540, top, 340, 180, radius=10)
    picture.word(f"node {number + 1}", 860, top + 20, "note", "end")
    picture.box(556, top + 28, 140, 76, "agent", "a Ray actor,", "with a fork server")
    for worker in range(2):
        picture.box(730, top + 28 + 42 * worker, 134, 36, f"worker {2 * number + worker + 2}")
    picture.arrow((696, top + 66), (728, top + 46))
    picture.arrow((696, top + 66), (728, top + 88))
    picture.rectangle("box", 556, top + 122, 308, 44, radius=8)
    picture.word("its own ring", 570, top + 149, anchor="start")
    for slot, state in enumerate(("granted", "granted", "ready")):
        picture.rectangle(state, 690 + 56 * slot, top + 130, 50, 28)
    picture.arrow((626, top + 120), (626, top + 106))
    picture.arrow((372, 96), (450, 96), (450, top + 52), (554, top + 52))
    picture.arrow((554, top + 84), (470, top + 84), (450, 330), (372, 330))
    picture.word("grants", 508, top + 47, "label")
    picture.word("reports, bytes", 492, top + 105, "label")
