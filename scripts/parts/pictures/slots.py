"""The states of a slot, and the transitions between them."""

from parts.pictures.svg import Picture

_STATES = {
    "free": ("unused", "may have no memory allocated"),
    "granted": ("a worker's", "computes one batch into it"),
    "ready": ("the trainer's", "waits for its turn in the order"),
    "leased": ("the consumer's", "the loop has views of it"),
}
_MOVES = ("grant", "publish", "take")


def draw() -> Picture:
    """Return the picture."""
    picture = Picture(
        900,
        330,
        "The states of a slot",
        "A free slot is granted to a worker, which computes one batch into it and reports it; the slot is then "
        "ready, and the trainer's. When it is the batch's turn, the loop takes it: the slot is leased until the "
        "last view of the batch is deleted, and then free again. If the worker crashes, or the epoch ends early, "
        "a granted or ready slot is reclaimed.",
    )
    lefts = [30 + 222 * number for number in range(4)]
    for left, (state, (owner, why)) in zip(lefts, _STATES.items(), strict=True):
        picture.rectangle(state, left, 120, 174, 74, radius=10)
        picture.word(state.upper(), left + 87, 151, "dark")
        picture.word(owner, left + 87, 175, "dark")
        picture.word(why, left + 87, 214, "note")
    for left, move in zip(lefts, _MOVES, strict=False):
        picture.arrow((left + 174, 157), (left + 222, 157))
        picture.word(move, left + 198, 147, "note")
    picture.arrow((783, 120), (740, 40), (160, 40), (117, 118))
    picture.word("release: the last view of the batch is deleted", 450, 50)
    picture.arrow((561, 226), (540, 300), (160, 300), (117, 222), back=True)
    picture.arrow((339, 226), (330, 270), (190, 270), (140, 224), back=True)
    picture.word("reclaim: the worker crashed, or the epoch ended early", 450, 312)
    return picture
