"""A control group without free memory: producers wait, and the kernel kills no process."""

import pytest
from helpers.memory_groups import BIG, kills, memory_group
from helpers.trainer_processes import ran

pytestmark = pytest.mark.measures  # the kernel decides by the group's memory at one moment


@pytest.fixture
def group(request):
    with memory_group(request.param << 20) as folder:
        yield folder


RUN = (
    BIG
    + """
def make():
    make.count += 1
    if make.count > 25:
        raise mpqueue.errors.OutOfRangeError(None, None, "the end")
    return np.full(10 << 17, make.count)
make.count = 0

coordinator = mpqueue.Coordinator()
queue = mpqueue.FIFOQueue(50, [np.int64], shapes=[(10 << 17,)])
op = queue.enqueue_op(make)
runner = mpqueue.train.QueueRunner(queue, [op, op], workers="process")
threads = runner.create_threads(coord=coordinator, start=True)
time.sleep(0.5)  # producers with memory continue; the test is valid for any duration
taken = []
try:
    while True:
        taken.append(whole(queue.dequeue()))
except mpqueue.errors.OutOfRangeError as error:
    end = error
coordinator.request_stop()
"""
)


# With 200 MiB, the processes sometimes use all of it themselves: 1 run of 20 ended with SharedMemoryFull.
@pytest.mark.parametrize("group", [260], indirect=True)
def test_producers_of_a_queue_wait_for_memory(group):
    output, _ = ran(RUN + "coordinator.join(threads)\nsay(*sorted(taken))", env={"CGROUP": group})
    assert output == [" ".join(str(number) for number in range(1, 26) for _ in range(2))]
    assert kills(group) == 0


@pytest.mark.parametrize("group", [150], indirect=True)
def test_consumer_of_a_queue_in_a_group_that_is_too_small_learns_what_is_missing(group):
    (text,), _ = ran(RUN + "say(end)", env={"CGROUP": group})
    assert "is closed" in text
    assert "SharedMemoryFull: a batch needs 10,485,760 bytes of shared memory" in text
    assert "limit of the control group" in text
