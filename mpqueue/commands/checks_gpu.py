"""Checks of GPUs: known to the driver, seen by torch, and able to read a loader's ring without a copy."""

import glob
import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from mpqueue.commands.findings import Check, Finding

_DRIVER = Path("/proc/driver/nvidia")
_LIMIT_S = 120  # the import of torch and the start of CUDA; a driver that hangs is found, too
# In a process of its own: CUDA may hang, or crash, and takes memory on the device.
_TRIAL = """
import json, torch
found = {"cuda": torch.cuda.is_available(), "built": torch.version.cuda}
if found["cuda"]:
    from mpqueue.memory.segment import Segment
    from mpqueue.memory.slots import PAGE
    from mpqueue.frameworks.torch.pinned import TorchCuda
    import numpy as np
    found["devices"] = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    torch.zeros(1, device="cuda")
    segment = Segment.create(1 << 20)
    segment.reserve(0, 1 << 20)
    memory = np.frombuffer(segment.memory, np.uint8)
    address = int(memory.__array_interface__["data"][0])
    cuda = TorchCuda()
    found["trouble"] = cuda.register(address, 1 << 20)
    if not found["trouble"]:
        found["pinned"] = torch.from_numpy(memory).is_pinned()
        cuda.unregister(address)
print(json.dumps(found))
"""


def gpu() -> Finding | None:
    """Have torch look for GPUs, and pin a piece of shared memory."""
    devices = sorted(glob.glob("/dev/nvidia[0-9]*"))
    if not devices:
        return _without_device()
    if find_spec("torch") is None:
        known = ", ".join(_models()) or _number(len(devices))
        return Finding("gpu", "ok", f"{known}; torch is not installed, so pinning was not tried")
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TRIAL], capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding(
            "gpu", "problem", f"CUDA does not answer within {_LIMIT_S} s", "look at `nvidia-smi` and at `dmesg`"
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it died"])[-1]
        return Finding("gpu", "problem", f"CUDA fails in torch: {last}", "look at `nvidia-smi`")
    return judge(json.loads(done.stdout.splitlines()[-1]), len(devices))


def _without_device() -> Finding:
    """Return why there is no device: none is here, or none is shown here."""
    models = _models()
    if models:
        found = f"the driver knows of {', '.join(models)}, but there is no device in /dev: no program here can use it"
        return Finding("gpu", "note", found, "in a container: docker run --gpus all; else `nvidia-modprobe -c 0`")
    if not _DRIVER.exists() and shutil.which("nvidia-smi"):
        found = "no NVIDIA GPU: nvidia-smi is installed, but no driver is loaded"
        return Finding("gpu", "note", found, "`modprobe nvidia`; after an update of the driver or the kernel, reboot")
    return Finding("gpu", "ok", "no NVIDIA GPU here: no device in /dev, and no driver that knows of one")


def _models() -> list[str]:
    """Return the models of the GPUs that the driver knows of."""
    found = []
    for path in sorted(_DRIVER.glob("gpus/*/information")):
        try:
            lines = path.read_text().splitlines()
        except OSError:
            lines = []
        told = [line.partition(":")[2].strip() for line in lines if line.startswith("Model")]
        found += told or ["an NVIDIA GPU"]
    return found


def _number(count: int) -> str:
    return f"{count} NVIDIA device{'' if count == 1 else 's'}"


def judge(found: dict[str, object], num_devices: int) -> Finding:
    """Return the finding that follows from what the trial has told."""
    if not found["cuda"]:
        why = "torch is built without CUDA" if found["built"] is None else "torch finds none it can use"
        remedy = "install torch with CUDA" if found["built"] is None else "look at `nvidia-smi`, CUDA_VISIBLE_DEVICES"
        return Finding("gpu", "note", f"{_number(num_devices)}, but {why}", remedy)
    devices = found["devices"]
    assert isinstance(devices, list)
    names = ", ".join(map(str, devices))
    if not found.get("pinned"):
        return Finding(
            "gpu",
            "note",
            f"{names}: CUDA does not pin shared memory ({found.get('trouble') or 'torch does not see it as pinned'}), "
            "so pin_memory=True copies each batch once",
            "ulimit -l unlimited; in a container, docker run --ulimit memlock=-1",
        )
    return Finding("gpu", "ok", f"{names}: the ring can be pinned, and pin_memory=True copies nothing")


CHECKS: tuple[Check, ...] = (gpu,)
