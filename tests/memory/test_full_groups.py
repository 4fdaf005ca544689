"""A control group without free memory: fewer batches are computed ahead, and the kernel kills no process."""

import pytest
from helpers.memory_groups import BIG, kills, memory_group
from helpers.trainer_processes import ran

# The kernel checks the group's memory at one moment: on a busy machine, a worker returns its pages late.
pytestmark = pytest.mark.measures

MIB = 1 << 20


@pytest.fixture
def group(request):
    with memory_group(request.param * MIB) as folder:
        yield folder


def ran_in(group, script):
    return ran(BIG + script, env={"CGROUP": group})


LOADERS = {
    "many ahead": "Loader(Big(), workers=2, max_queue_size=10)",
    "made in the slot": "Loader(InSlot(), workers=2, max_queue_size=10)",
    "as they are ready": "Loader(Big(), workers=2, max_queue_size=10, ordered=False)",
    "the first one is late": "Loader(Late(), workers=2, max_queue_size=10)",
    "they grow": "Loader(Growing(), workers=2, max_queue_size=10)",
    "stream": "Loader(mpqueue.Dataset.range(30).filter(lambda x: True).map(Big().__getitem__), workers=2, lanes=1)",
    "stream of lanes": "Loader(mpqueue.Dataset.range(30).filter(lambda x: True).map(Big().__getitem__), workers=2, lanes=2)",
    "forked": "Loader(Big(), workers=2, max_queue_size=10, start_method='fork')",
}


# Ten batches ahead need 250 MiB. The processes take 65 to 95 MiB, and four batches may exist at once: the consumer's, one
# in a slot, and one in the private memory of each worker. With 200 MiB, the last batch once lacked 2 MiB.
@pytest.mark.parametrize("group", [240], indirect=True)
@pytest.mark.parametrize("name", LOADERS)
def test_all_batches_arrive_and_the_kernel_kills_no_process(group, name):
    said, output = ran_in(
        group,
        f"""
class InSlot(Big):
    def __getitem__(self, index):
        made = mpqueue.empty(self.size, np.int64)
        made[:] = index
        return made
class Late(Big):
    def __getitem__(self, index):
        if index % 10 == 0:
            time.sleep(0.3)
        return super().__getitem__(index)
class Growing(Big):
    def __getitem__(self, index):
        return np.full(self.size // 30 * (index + 1), index)
with {LOADERS[name]} as loader:
    say(*sorted(whole(batch) for batch in loader))
""",
    )
    # The trainer itself may end a worker with a later batch, if the batch that is due next needs its memory.
    assert (said, kills(group)) == ([" ".join(map(str, range(30)))], 0), output
    warned = [line for line in output.splitlines() if "memory for batches is short" in line]
    assert len(warned) <= 1
    if name == "many ahead":
        assert "the control group allows 252 MB" in warned[0]


@pytest.mark.parametrize("group", [200], indirect=True)
def test_batch_that_never_fits_raises(group):
    said, _ = ran_in(
        group,
        """
with Loader(Big(megabytes=60), workers=1) as loader:
    batches, kept = iter(loader), []
    try:
        for batch in batches:
            kept.append(batch)
            del batch
    except mpqueue.errors.SharedMemoryFull as error:
        say(len(kept), error.bytes_asked >> 20, error.bytes_available >> 20)
    say(loader.statistics().deaths)
""",
    )
    kept, requested, available = map(int, said[0].split())
    assert kept >= 0
    assert requested == 60
    assert available < 60
    assert said[1] == "0"
    assert kills(group) == 0


@pytest.mark.parametrize("group", [150], indirect=True)
def test_server_computes_fewer_batches_ahead(group):
    said, _ = ran_in(
        group,
        """
import tempfile
os.environ["MPQUEUE_HOME"] = tempfile.mkdtemp()
with mpqueue.Server("s", Big(megabytes=10), workers=2, max_queue_size=20) as server, mpqueue.attach("s") as consumer:
    say(*sorted(whole(batch) for batch in consumer))
import shutil
shutil.rmtree(os.environ["MPQUEUE_HOME"])
""",
    )
    assert said == [" ".join(map(str, range(30)))]
    assert kills(group) == 0
