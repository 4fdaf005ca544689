"""``mpqueue doctor``: its findings on machines that lack something, and on this one."""

import errno
import json
import os
import re
import resource
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.computed_source import Computed
from helpers.control_groups import show_groups
from helpers.package_structure import ROOT
from helpers.refused_calls import refusing

import mpqueue
from mpqueue.__main__ import main
from mpqueue.commands.doctor import doctor, findings
from mpqueue.commands.doctor import gpu as checks_gpu
from mpqueue.commands.doctor import memory as checks_memory
from mpqueue.commands.doctor import python as checks_python
from mpqueue.commands.doctor import system as checks_system
from mpqueue.commands.doctor.findings import Finding
from mpqueue.system.processes import limits

GIB = 1 << 30


# Control groups


@pytest.fixture
def group(tmp_path, monkeypatch):
    """Returns a function that sets the kernel's files, by their path below the tree of control groups."""
    trees = [
        ("/", tmp_path / "tree"),
        ("/", tmp_path / "tree" / "memory", "cgroup", "memory"),
        ("/", tmp_path / "tree" / "cpu", "cgroup", "cpu,cpuacct"),
    ]

    def write(place, **files):
        show_groups(monkeypatch, tmp_path, place, *trees)
        for name, text in files.items():
            path = tmp_path / "tree" / Path(*name.split("/"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


HUGE = "9223372036854771712"  # no limit, in version 1
FREE = "anon 600\nfile 500\nshmem 100\ninactive_file 300\nactive_file 100\n"
GROUPS = {
    "lowest quota of all parents": (
        limits.cpu_quota, 1.5, "0::/a/b\n",
        {"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 100000", "cpu.max": "400000 100000"},
    ),
    "no quota": (limits.cpu_quota, None, "0::/a\n", {"a/cpu.max": "max 100000"}),
    "empty quota": (limits.cpu_quota, None, "0::/a\n", {"a/cpu.max": ""}),
    "limit that leaves the least memory": (
        limits.group_memory, (9000, 500), "0::/a/b\n",
        {"a/b/memory.max": "8000", "a/b/memory.current": "1000", "a/memory.max": "9000", "a/memory.current": "8500"},
    ),
    "no memory limit, version 1": (
        limits.group_memory, None, "3:memory:/x\n",
        {"memory/x/memory.limit_in_bytes": HUGE, "memory/x/memory.usage_in_bytes": "5"},
    ),
    "free memory includes the file cache": (
        limits.group_memory, (1500, 700), "0::/a/b\n",
        {"a/b/memory.max": "1500", "a/b/memory.current": "1200", "a/b/memory.stat": FREE,
         "a/memory.max": "9000", "a/memory.current": "2000", "a/memory.stat": "inactive_file 0\nactive_file 0\n"},
    ),
    "children of a group of version 1": (
        limits.group_memory, (1500, 335), "3:memory:/x\n",
        {"memory/x/memory.limit_in_bytes": "1500", "memory/x/memory.usage_in_bytes": "1200",
         "memory/x/memory.stat": "inactive_file 1\ntotal_inactive_file 30\ntotal_active_file 5\n"},
    ),
    "group without limit": (limits.group_memory, None, "0::/a\n", {"a/memory.max": "max", "a/memory.current": "5"}),
    "group with a huge limit": (limits.group_memory, None, "0::/a\n", {"a/memory.max": HUGE, "a/memory.current": "5"}),
}  # fmt: skip


@pytest.mark.parametrize(("find", "expected", "place", "files"), GROUPS.values(), ids=GROUPS)
def test_limits_of_control_groups_are_found(group, find, expected, place, files):
    group(place, **files)
    assert find() == expected


def test_a_quota_of_version_1_is_found_in_its_own_tree(group):
    group("4:cpu,cpuacct:/x\n0::/\n", **{"cpu/x/cpu.cfs_quota_us": "50000", "cpu/x/cpu.cfs_period_us": "100000"})
    assert limits.cpu_quota() == 0.5


@pytest.mark.parametrize("missing", ["_OWN", "_MOUNTS"])
def test_without_control_groups_there_are_no_limits(missing, group, monkeypatch, tmp_path):
    group("0::/a\n", **{"a/cpu.max": "150000 100000"})
    monkeypatch.setattr(limits, missing, tmp_path / "missing")
    assert (limits.cpu_quota(), limits.group_memory()) == (None, None)


@pytest.mark.parametrize(("quota", "expected"), [("20000 100000", 1), ("1600000 100000", 8)])
def test_useful_workers_are_bounded_by_affinity_and_by_the_quota(group, monkeypatch, quota, expected):
    monkeypatch.setattr(limits, "num_cpus", lambda: 8)
    group("0::/a\n", **{"a/cpu.max": quota})
    assert limits.useful_workers() == expected


# Single checks


def finding_of(check):
    found = findings.run(check)
    assert found.verdict == "ok" or found.found
    return found


def open_files(soft, hard=4096):
    return {(resource, "getrlimit"): lambda which: (soft, hard), (checks_system, "num_cpus"): lambda: 4}


def loaded(*averages):
    return {(os, "getloadavg"): lambda: averages, (checks_system, "num_cpus"): lambda: 4}


def shared_memory(total, free):
    found = SimpleNamespace(f_blocks=total // 4096, f_bavail=free // 4096, f_frsize=4096)
    return {(os, "statvfs"): lambda path: found}


MACHINES = {
    "quota": (
        checks_system.cpus,
        {(limits, "cpu_quota"): lambda: 1.5, (limits, "num_cpus"): lambda: 8, (checks_system, "num_cpus"): lambda: 8},
        "note", "a quota of 1.5.*workers=2",
    ),
    "busy": (checks_system.load, loaded(9.0, 1.0, 1.0), "note", ""),
    "not busy any longer": (checks_system.load, loaded(4.0, 9.0, 9.0), "ok", ""),
    "60 open files": (checks_system.files, open_files(60), "problem", r"\nulimit -n 4096$"),
    "256 open files": (checks_system.files, open_files(256), "note", r"\nulimit -n 4096$"),
    "4096 open files": (checks_system.files, open_files(4096), "ok", r"\n$"),
    "any number of open files": (checks_system.files, open_files(-1), "ok", r"\n$"),
    "hard limit of open files": (checks_system.files, open_files(256, 256), "note", r"limits\.conf"),
    "too few processes": (
        checks_system.processes, {(resource, "getrlimit"): lambda which: (1, 1), (os, "geteuid"): lambda: 1000},
        "problem", "",
    ),
    "address space": (
        checks_system.address_space,
        {(resource, "getrlimit"): lambda which: (8 * GIB, -1) if which == resource.RLIMIT_AS else (-1, -1)},
        "note", "8 GiB of address space",
    ),
    "no pidfds": (checks_system.pidfd, {(os, "pidfd_open"): refusing(errno.EPERM)}, "problem", "seccomp"),
    "small shared memory": (checks_memory.shm, shared_memory(64 << 20, 64 << 20), "note", "too small for batches"),
    "full shared memory": (checks_memory.shm, shared_memory(16 * GIB, 100 << 20), "problem", "SharedMemoryFull"),
    "enough shared memory": (checks_memory.shm, shared_memory(16 * GIB, 9 * GIB), "ok", "9 GiB of 16 GiB free"),
    "no shared memory": (checks_memory.shm, {(checks_memory, "_SHM"): "/missing"}, "note", ""),
    "no memory files": (
        checks_memory.memfd, {(os, "memfd_create"): refusing(errno.ENOSYS)}, "problem", "Function not implemented",
    ),
    "little memory in a group": (
        checks_memory.memory, {(limits, "group_memory"): lambda: limits.GroupMemory(2 * GIB, 100 << 20)},
        "note", "100 MiB of 2 GiB free, of the control group.*docker run --memory",
    ),
}  # fmt: skip


@pytest.mark.sample(5)
@pytest.mark.parametrize(("check", "machine", "verdict", "words"), MACHINES.values(), ids=MACHINES)
def test_finding_has_verdict_cause_and_remedy(monkeypatch, check, machine, verdict, words):
    with monkeypatch.context() as patch:
        for place, value in machine.items():
            patch.setattr(*place, value)
        found = finding_of(check)
    assert found.verdict == verdict
    assert re.search(words, f"{found.found}\n{found.remedy}", re.DOTALL)


def test_worker_without_a_batch_is_a_problem(monkeypatch):
    monkeypatch.setattr(checks_python, "_One", lambda: Computed(refusing(errno.EIO), 1))
    found = finding_of(checks_python.workers)
    assert found.verdict == "problem"
    assert "OSError: [Errno 5] Input/output error" in found.found


def test_a_folder_that_others_may_write_to_is_a_problem(servers_directory):
    os.chmod(servers_directory, 0o700)
    assert finding_of(checks_python.folder).verdict == "ok"
    assert os.listdir(servers_directory) == []


def test_path_too_long_for_a_folder_is_a_problem(monkeypatch, tmp_path):
    monkeypatch.setenv("MPQUEUE_HOME", str(tmp_path / ("long" * 70)))
    found = finding_of(checks_python.folder)
    assert found.verdict == "problem"
    assert "MPQUEUE_HOME" in found.remedy


@pytest.mark.parametrize(
    ("report", "verdict", "words"),
    [
        ({"cuda": False, "built": None}, "note", "built without CUDA"),
        ({"cuda": False, "built": "12.4"}, "note", "CUDA_VISIBLE_DEVICES"),
        ({"cuda": True, "built": "12.4", "devices": ["H100"], "trouble": "error 2"}, "note", "error 2"),
        ({"cuda": True, "built": "12.4", "devices": ["H100"], "trouble": "", "pinned": True}, "ok", "copies nothing"),
    ],
)
def test_gpu_report_of_torch_determines_the_verdict(report, verdict, words):
    found = checks_gpu.judge(report, 1)
    assert found.verdict == verdict
    assert words in f"{found.found} {found.remedy}"


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Simulates what NVIDIA's driver reports in /proc for GPUs of these models, and its command."""
    monkeypatch.setattr(checks_gpu.glob, "glob", lambda pattern: [])
    monkeypatch.setattr(checks_gpu, "_DRIVER", tmp_path / "driver")
    monkeypatch.setattr(checks_gpu.shutil, "which", lambda name: None)

    def knows(*models):
        for index, model in enumerate(models):
            folder = tmp_path / "driver" / "gpus" / f"0000:0{index}:00.0"
            folder.mkdir(parents=True)
            (folder / "information").write_text(f"Model: \t\t {model}\nIRQ:   \t\t 30\n")

    return knows


def test_gpu_unavailable_in_the_container_is_a_note(driver):
    driver("NVIDIA H100 80GB HBM3", "NVIDIA L4")
    found = finding_of(checks_gpu.gpu)
    assert found.verdict == "note"
    assert "the driver lists NVIDIA H100 80GB HBM3, NVIDIA L4" in found.found
    assert "docker run --gpus all" in found.remedy


def never_answer(command, timeout, **_):
    raise subprocess.TimeoutExpired(command, timeout)


FAILED = SimpleNamespace(returncode=1, stderr="Traceback\nRuntimeError: no driver\n", stdout="")


@pytest.mark.parametrize(
    ("run", "words"), [(never_answer, ""), (lambda *_, **__: FAILED, "RuntimeError: no driver")], ids=["hangs", "fails"]
)
def test_gpu_whose_check_fails_is_a_problem(monkeypatch, run, words):
    monkeypatch.setattr(checks_gpu.glob, "glob", lambda pattern: ["/dev/nvidia0"])
    monkeypatch.setattr(checks_gpu, "is_installed", lambda name: True)
    monkeypatch.setattr(subprocess, "run", run)
    found = finding_of(checks_gpu.gpu)
    assert found.verdict == "problem"
    assert words in found.found


# All together


def test_failing_check_is_a_problem_and_others_still_run(monkeypatch, capsys):
    def fail():
        raise ZeroDivisionError("of the check")

    monkeypatch.setattr(doctor, "CHECKS", {"open files": fail, "other": lambda: Finding("ok", "fine")})
    assert main(["doctor"]) == 1
    first, second, _ = capsys.readouterr().out.splitlines()
    assert first.startswith("problem  open files  ")
    assert "ZeroDivisionError: of the check" in first
    assert second.startswith("ok       other")


def test_descriptors_per_worker_are_those_that_a_worker_has():
    descriptors = []
    for workers in (1, 3):
        with mpqueue.Loader(range(8), workers=workers) as loader:
            iter(loader)
            descriptors.append(len(os.listdir("/proc/self/fd")))
    mpqueue.shutdown()
    assert descriptors[1] - descriptors[0] == 2 * checks_system._PER_WORKER


@pytest.mark.parametrize(
    ("verdicts", "status", "last"),
    [
        (["ok", "ok"], 0, "no problems in 2 checks"),
        (["ok", "note"], 0, "1 note in 2 checks"),
        (["problem", "note", "note"], 1, "1 problem and 2 notes in 3 checks"),
    ],
)
def test_exit_status_is_1_if_there_is_a_problem(monkeypatch, capsys, verdicts, status, last):
    made = {f"check {n}": Finding(verdict, "found", "do this") for n, verdict in enumerate(verdicts)}
    monkeypatch.setattr(doctor, "CHECKS", {name: lambda found=found: found for name, found in made.items()})
    assert main(["doctor"]) == status
    output = capsys.readouterr().out.splitlines()
    assert output[-1] == last
    assert "-> do this" in output[1]


def test_caches_of_a_folder_are_counted(tmp_path, capsys):
    cached = mpqueue.Dataset.range(20).map(lambda number: b"%d" % number * 100).cache(tmp_path, max_bytes=60_000)
    for _ in range(2):
        list(cached)
    doctor.main(["--json", "--cache", str(tmp_path), "--cache", str(tmp_path / "missing")])
    *_, found, missing = json.loads(capsys.readouterr().out)["findings"]
    assert found["name"] == f"cache {tmp_path}"
    assert found["verdict"] == "ok"
    assert re.fullmatch(
        r"\d+\.?\d* KiB in 1 cache, of which \d+\.?\d* KiB in use; 20 hits, 20 stored, 0 evictions; the bound is 58.6 KiB",
        found["found"],
    )
    assert missing["verdict"] == "problem"
    assert "No such file" in missing["found"]
    more = mpqueue.Dataset.range(900).map(lambda number: b"%d" % number * 100).cache(tmp_path, max_bytes=60_000)
    list(more)
    finding = checks_memory.caches(str(tmp_path))
    assert finding.verdict == "note"
    assert "larger max_bytes" in finding.remedy


def test_doctor_runs_on_this_machine(servers_directory, capsys):
    status = main(["doctor", "--json"])
    found = capsys.readouterr()
    assert found.err == ""
    output = json.loads(found.out)
    assert status == (1 if output["problems"] else 0)
    names = [finding["name"] for finding in output["findings"]]
    assert {"pidfd", "cpus", "memory", "workers", "servers' folder"} <= set(names)
    assert all(finding["remedy"] for finding in output["findings"] if finding["verdict"] == "problem")
    assert os.listdir(servers_directory) == []


@pytest.mark.parametrize("after", [0, 1])
def test_python_is_accepted_up_to_the_newest_version_that_the_package_names(after, monkeypatch):
    metadata = (ROOT / "pyproject.toml").read_text("utf-8")
    newest = max(int(minor) for minor in re.findall(r'"Programming Language :: Python :: 3\.(\d+)"', metadata))
    monkeypatch.setattr(checks_python, "sys", SimpleNamespace(version_info=(3, newest + after, 0), executable="python"))
    found = checks_python.python()
    assert found.verdict == ("note" if after else "ok")
    assert (f"mpqueue is tested with CPython 3.11 to 3.{newest}" in found.found) is bool(after)
