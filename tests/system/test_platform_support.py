"""Systems other than Linux, patched modules and a missing /proc: an error at the first use that needs them."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

import mpqueue
from mpqueue.system.descriptors import descriptors

CODE = """
import sys

sys.platform = "darwin"
import mpqueue

def serve():
    from mpqueue.__main__ import main
    main(["serve"])

for use in lambda: mpqueue.Loader([1.0]), lambda: mpqueue.attach, serve:
    try:
        use()
    except ImportError as error:
        print(error)
"""


def test_error_names_required_system_and_alternative():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.count("mpqueue requires Linux") == 3
    assert done.stdout.count("got darwin: use a Linux container or virtual machine") == 3


WAYS = {
    "loader": lambda: [*mpqueue.Loader([1, 2], workers=1)],
    "loader with threads": lambda: [*mpqueue.Loader([1, 2], workers=1, backend="thread")],
    "server": lambda: mpqueue.Server("patched", [1, 2], workers=1).start(),
    "consumer": lambda: mpqueue.attach("patched"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("gevent", {"gevent.monkey": SimpleNamespace(is_module_patched=lambda name: name == "threading")}),
        ("eventlet", {"eventlet.patcher": SimpleNamespace(is_monkey_patched=lambda name: name == "thread")}),
    ],
)
def test_patches_of_gevent_and_eventlet_are_an_error_that_names_them(name, module, way, monkeypatch):
    for path, fake in module.items():
        monkeypatch.setitem(sys.modules, path, fake)
    with pytest.raises(RuntimeError, match=f"{name} has replaced threads.* Pass workers=0"):
        WAYS[way]()
    assert [*mpqueue.Loader([1, 2], workers=0)] == [1, 2]


def test_gevent_that_has_patched_nothing_is_no_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "gevent.monkey", SimpleNamespace(is_module_patched=lambda _: False))
    assert [*mpqueue.Loader([1, 2], workers=1, backend="thread")] == [1, 2]


@pytest.mark.parametrize("way", ["loader", "server"])
def test_missing_proc_is_an_error_with_the_remedy(way, tmp_path, monkeypatch):
    monkeypatch.setattr(descriptors, "_OPEN_FILES", str(tmp_path / "proc/self/fd"))
    with pytest.raises(OSError, match=r"/proc is not mounted.*mount -t proc proc /proc"):
        WAYS[way]()
    assert [*mpqueue.Loader([1, 2], workers=1, backend="thread")] == [1, 2]
    assert [*mpqueue.Loader([1, 2], workers=0)] == [1, 2]


def test_missing_descriptor_is_not_a_missing_proc():
    with pytest.raises(FileNotFoundError) as caught:
        descriptors.open_again(1 << 20, os.O_RDONLY)
    assert "mount" not in str(caught.value)
