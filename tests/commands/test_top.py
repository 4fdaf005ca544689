"""``mpqueue top``: rows, the table in any width, and the command on a terminal, in a pipe, and with a hanging process."""

import json
import os
import signal

import pytest
from helpers.commands import status_at_exit
from helpers.terminals import terminal
from helpers.watched import loading

import mpqueue
from mpqueue.__main__ import main
from mpqueue.commands.top_rows import TopRow, rows_of
from mpqueue.telemetry.monitor.asking import MonitorAnswer


@pytest.fixture(autouse=True)
def home(servers_directory):
    return servers_directory


# Rows


def answered(pid, *things, clock_s=10.0):
    found = [{"id": number, "is_running": True, **thing} for number, thing in enumerate(things)]
    return MonitorAnswer(f"/home/{pid}-aa", pid, {"shown": found, "clock_s": clock_s})


def loader(batches, **other):
    statistics = {"batches": batches, "bytes": 1_000_000 * batches, "wait_s": 0.005 * batches, "slots_in_use": 3, "num_slots": 12, "deaths": 0}  # fmt: skip
    return {"kind": "Loader", "name": "Photos", "workers": 4, "backend": "process", "epoch": 2, "statistics": statistics | other}  # fmt: skip


def server(batches, *consumers, **other):
    return loader(batches, consumers=list(consumers)) | {"kind": "Server", "name": "photos", "mode": "split", "world": 2} | other  # fmt: skip


def consumer(number, batches, **other):
    return {"number": number, "pid": 100 + number, "rank": number, "epoch": 2, "batches": batches, "bytes": 0, "wait_s": 0.0, **other}  # fmt: skip


def test_rates_are_differences_by_the_clock_of_the_process():
    (row,) = rows_of([answered(7, loader(300), clock_s=12.0)], [answered(7, loader(100))])
    assert (row.pid, row.kind, row.name, row.workers, row.epoch) == (7, "Loader", "Photos", "4 processes", 2)
    assert (row.batches, row.batches_per_s, row.bytes_per_s, row.wait_share) == (300, 100.0, 1e8, 0.5)
    assert row.ring == (3, 12)


def test_waiting_share_is_at_most_100_percent():
    """A wait that began before the previous update is counted when it ends."""
    (row,) = rows_of([answered(7, loader(300, wait_s=9.0), clock_s=12.0)], [answered(7, loader(100, wait_s=1.0))])
    assert row.wait_share == 1.0


@pytest.mark.parametrize(
    "before",
    [[], [answered(8, loader(100))], [answered(7, loader(400))], [answered(7, clock_s=9.0)], [answered(7, loader(100), clock_s=12.0)], [MonitorAnswer("/home/7-aa", 7)]],
    ids=["none", "of another process", "counted anew", "of nothing", "at the same time", "no answer"],
)  # fmt: skip
def test_without_an_earlier_answer_there_are_no_rates(before):
    (row,) = rows_of([answered(7, loader(300), clock_s=12.0)], before)
    assert (row.batches, row.batches_per_s, row.wait_share) == (300, None, None)


def test_consumers_follow_their_server_with_its_counters():
    before = [answered(7, server(100, consumer(0, 50), consumer(1, 50)))]
    now = server(300, consumer(0, 150, wait_s=1.0), consumer(1, 60, holds_up=True, behind=4, skipped=2))
    found = rows_of([answered(7, now, clock_s=12.0)], before)
    assert [(row.pid, row.kind, row.name) for row in found] == [
        (7, "Server", "photos"),
        (100, "Consumer", "photos, rank 0"),
        (101, "Consumer", "photos, rank 1"),
    ]
    assert [row.batches_per_s for row in found] == [100.0, 50.0, 5.0]
    assert found[1].wait_share == 0.5
    assert found[2].note == "the others wait for it, 2 skipped, lags by 4 batches"
    assert found[0].note == "split over 2"


def test_consumer_listed_by_its_server_is_not_listed_twice():
    own = {"kind": "Consumer", "name": "photos", "server_pid": 7, "statistics": {"batches": 1}}
    both = rows_of([answered(7, server(10, consumer(0, 5))), answered(100, own)])
    assert [(row.pid, row.kind) for row in both] == [(7, "Server"), (100, "Consumer")]
    alone = rows_of([answered(100, own)])
    assert [(row.pid, row.kind) for row in alone] == [(100, "Consumer")]


def test_process_without_answer_has_its_own_row():
    (row,) = rows_of([MonitorAnswer("/home/7-aa", 7, None, "it is stopped")])
    assert row == TopRow(7, name="does not answer", note="it is stopped", trouble=True)


def test_incomplete_report_of_another_version_is_shown():
    (row,) = rows_of([answered(7, {})])
    assert (row.kind, row.batches) == ("?", None)


# The mpqueue command


@pytest.fixture
def printed(capsys):
    """Return a function that runs the command here, and returns its exit status and its output."""

    def run(*arguments):
        status = main(["top", "--interval", "0.2", *arguments])
        output, errors = capsys.readouterr()
        assert errors == ""
        return status, output

    return run


class Numbers:
    def __len__(self):
        return 1 << 40

    def __getitem__(self, index):
        return mpqueue.stack([index] * 4)


@pytest.fixture
def batches():
    """The batches of a loader that is shown, without the first one."""
    with mpqueue.Loader(Numbers(), workers=1, monitor=True) as loader:
        found = iter(loader)
        next(found)
        yield found


@pytest.mark.usefixtures("batches")
def test_table_is_printed_once_without_colours_in_a_pipe(printed):
    status, output = printed()
    assert status == 0
    heading, row = output.splitlines()
    assert heading.split()[:3] == ["pid", "what", "name"]
    assert row.split()[:5] == [str(os.getpid()), "Loader", "Numbers", "1", "process"]
    assert "\033" not in output


def test_no_monitored_process_is_not_an_error(printed):
    status, output = printed()
    assert status == 0
    assert "no process of this user is monitored" in output


def test_json_has_a_line_with_rates_and_reports_per_update(printed, batches):
    for _ in range(50):
        next(batches)
    status, output = printed("--json", "--count", "2")
    assert status == 0
    first, second = map(json.loads, output.splitlines())
    (row,) = second["rows"]
    assert (row["pid"], row["batches"], row["batches_per_s"]) == (os.getpid(), 51, 0.0)
    assert first["processes"][0]["report"]["shown"][0]["statistics"]["batches"] == 51


@pytest.mark.usefixtures("batches")
def test_stopped_process_does_not_block_and_exits_with_1(printed):
    with loading() as program:
        program.send_signal(signal.SIGSTOP)
        status, output = printed()
    assert status == 1
    output = {line.split()[0]: line for line in output.splitlines()}
    assert output[str(program.pid)].split(maxsplit=1)[1].startswith("does not answer")
    assert output[str(program.pid)].endswith("it is stopped")
    assert "Loader" in output[str(os.getpid())]


def test_server_and_consumers_are_shown_without_monitor(printed):
    with mpqueue.Server("photos", [1, 2, 3], mode="broadcast", workers=1), mpqueue.attach("photos") as attached:
        next(iter(attached))
        _, *rows = printed()[1].splitlines()
    assert [line.split()[1:3] for line in rows] == [["Server", "photos"], ["Consumer", "photos"]]
    assert rows[1].split()[0] == str(os.getpid())


def test_table_is_live_on_a_terminal_until_q(batches):
    with terminal("top", "--interval", "0.1") as screen:
        screen.wait_for(lambda lines: any(f"{os.getpid()}  Loader" in line for line in lines))
        for _ in range(1000):
            next(batches)
        screen.wait_for(lambda lines: any(" 1,001 " in line for line in lines))
        screen.press(b"q")
        assert screen.end() == 0
        assert b"\033[?25h" in screen.written  # the cursor is visible again


@pytest.mark.usefixtures("batches")
def test_no_line_is_wrapped_on_a_narrow_terminal_and_ctrl_c_prints_no_traceback():
    with terminal("top", "--interval", "30", columns=40) as screen:
        found = screen.wait_for(lambda lines: any(str(os.getpid()) in line for line in lines))
        assert len(found) == 2
        assert "batches/s" in found[0]
        screen.press(b"\x03")
        assert screen.end() == 0
        assert "Traceback" not in "".join(screen.lines())


@pytest.mark.usefixtures("batches")
def test_count_prints_plain_tables_on_a_terminal():
    with terminal("top", "--interval", "0.1", "--count", "1") as screen:
        assert screen.end() == 0
        assert any(str(os.getpid()) in line for line in screen.lines())
        assert b"\033[?25l" not in screen.written


@pytest.mark.parametrize("arguments", [["--interval", "0"], ["--count", "-1"], ["--timeout", "nan"], ["more"]])
def test_invalid_arguments_exit_with_2(arguments):
    assert status_at_exit("top", *arguments) == 2
