"""Read-ahead in a lane: whether its stages may request more elements than they need.

Elements that were read ahead are held by a stage. So the stages before it have advanced further than the elements that
the lane has returned require, by an amount that depends on measured times. A snapshot of such a state resumes exactly.
But it is not the state *at the place*: samples that are excluded there would leave other buffers than in another run.

A lane is *settled* if its state follows from the number of elements that it has returned. Snapshots are taken only
then. When one is due, the stages stop reading ahead, and the elements that they hold are used up soon:

- A stage reads ahead what is used within `SOON_NS`, by the time that earlier elements took.
- The stages before a mix read ahead only while the mix reads their elements often.

A lane that is not settled after 30 s of work gets a snapshot, too. Only the order after an exclusion may then differ.
"""

# The work that is recomputed after a crash grows by up to this time. With less, a mix of many inputs reads them in
# blocks that are too small.
SOON_NS = 2_000_000_000


class ReadAhead:
    """A switch for all stages of a lane.

    Args:
        is_on: Stages may read ahead.

    Attributes:
        is_on: Stages may read ahead now.
    """

    __slots__ = ("is_on",)

    def __init__(self, *, is_on: bool) -> None:
        self.is_on = is_on


ON_DEMAND = ReadAhead(is_on=False)  # never switched on
