"""Splitting the bytes of the pipe into records, in any pieces."""

from hypothesis import given
from hypothesis import strategies as st

from mpqueue.tf1.queues.wire import RECORD, RecordReader, Up

RECORDS = st.tuples(*[st.integers(0, 1000)] * 6).map(lambda numbers: ("record", numbers))
FOREIGN = st.binary(min_size=1, max_size=100).map(lambda data: ("foreign", data))


@given(st.lists(RECORDS | FOREIGN, max_size=20), st.lists(st.integers(1, 150), max_size=20))
def test_all_records_are_found_among_foreign_bytes(things, sizes):
    records = RecordReader()
    expected = [(records.mark | Up.ENQUEUE, *thing) for kind, thing in things if kind == "record"]
    data = b"".join(
        RECORD.pack(records.mark | Up.ENQUEUE, *thing) if kind == "record" else thing for kind, thing in things
    )
    end = RECORD.pack(records.mark | Up.DROP, 0, 0, 0, 0, 0, 0)
    data += end * 2  # foreign bytes at the end are detected when more bytes follow
    found = []
    for size in [*sizes, len(data)]:
        found += records.cut(data[:size])
        data = data[size:]
    assert found == [*expected, *[RECORD.unpack(end)] * 2]
