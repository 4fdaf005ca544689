"""A server and the trainers that attach to it."""

from parts.pictures.ring import draw_ring
from parts.pictures.svg import Picture


def draw() -> Picture:
    """Return the picture."""
    picture = Picture(
        900,
        440,
        "One preparation for many trainers",
        "A server process has the source, its workers and the ring. Each trainer attaches over a socket, maps the "
        "ring for reading only, and asks for batches; the server offers the places of batches in the ring. In split "
        "mode each batch goes to one trainer, in broadcast mode to all.",
    )
    picture.rectangle("group", 20, 24, 420, 226, radius=10)
    picture.word("mpqueue.Server(...) or mpqueue serve", 230, 44, "note")
    picture.box(40, 58, 180, 78, "server", "deals batches to ranks,", "keeps the journal")
    for number in range(3):
        picture.box(270, 58 + 60 * number, 150, 50, f"worker {number}")
    picture.word("computes batches, once", 130, 170)
    picture.word("a name and a folder, no port", 130, 192, "note")
    picture.arrow((220, 97), (268, 97), both=True)
    for number in range(3):
        top = 30 + 76 * number
        picture.box(640, top, 236, 62, f"trainer, rank {number}", "for batch in mpqueue.attach(...)")
        picture.arrow((638, top + 31), (560, top + 31), (330, 16 + 8 * number), (130, 56), back=True, head=False)
    picture.word("asks; offers of (slot, bytes)", 540, 24, "note")
    picture.rectangle("box", 20, 306, 860, 108, radius=8)
    picture.word("the server's ring, mapped by the trainers for reading only", 40, 330, anchor="start")
    draw_ring(picture, 42, 344, {"leased": 4, "ready": 3, "granted": 3})
    picture.arrow((345, 230), (645, 340))
    picture.word("writes batches", 470, 300, "note")
    picture.arrow((205, 342), (300, 270), (580, 290), (756, 248))
    picture.word("views, no copy", 740, 284, "note")
    return picture
