"""Checks of GPUs: visible to the driver and to torch, and able to read a loader's ring without a copy."""

import glob
import json
import shutil
import subprocess
import sys
from pathlib import Path

from mpqueue.commands.doctor.findings import Finding
from mpqueue.system.user_code.extras import is_installed

_DRIVER = Path("/proc/driver/nvidia")
_LIMIT_S = 120  # for importing torch and starting CUDA; detects a driver that hangs
# In a separate process: CUDA may hang or crash, and uses memory on the device.
_TRIAL = """
import json, torch
result = {"cuda": torch.cuda.is_available(), "built": torch.version.cuda}
if result["cuda"]:
    from mpqueue.memory.segment import Segment
    from mpqueue.memory.slots import PAGE
    from mpqueue.frameworks.torch.tensors.pinned import TorchCuda
    import numpy as np
    result["devices"] = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    torch.zeros(1, device="cuda")
    segment = Segment.create(1 << 20)
    segment.reserve(0, 1 << 20)
    memory = np.frombuffer(segment.memory, np.uint8)
    address = int(memory.__array_interface__["data"][0])
    cuda = TorchCuda()
    result["trouble"] = cuda.register(address, 1 << 20)
    if not result["trouble"]:
        result["pinned"] = torch.from_numpy(memory).is_pinned()
        cuda.unregister(address)
print(json.dumps(result))
"""


def gpu() -> Finding:
    """Check whether torch can use the GPUs, and pin shared memory."""
    # Not /dev/nvidiactl or /dev/nvidia-uvm, which belong to the driver and not to a GPU.
    devices = sorted(glob.glob("/dev/nvidia[0-9]*"))
    if not devices:
        return _without_device()
    if not is_installed("torch"):
        known = ", ".join(_models()) or _number(len(devices))
        return Finding("ok", f"{known}; torch is not installed, so pinning was not tried")
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TRIAL], capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding("problem", f"CUDA does not respond within {_LIMIT_S} s", "check `nvidia-smi` and `dmesg`")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["the process crashed"])[-1]
        return Finding("problem", f"CUDA fails in torch: {last}", "check `nvidia-smi`")
    return judge(json.loads(done.stdout.splitlines()[-1]), len(devices))


def _without_device() -> Finding:
    """Return why no device was found: the machine has no GPU, or it is not available here."""
    models = _models()
    if models:
        found = f"the driver lists {', '.join(models)}, but /dev has no device: programs here cannot use the GPU"
        return Finding("note", found, "in a container: docker run --gpus all; otherwise `nvidia-modprobe -c 0`")
    if not _DRIVER.exists() and shutil.which("nvidia-smi"):
        found = "no NVIDIA GPU: nvidia-smi is installed, but no driver is loaded"
        return Finding("note", found, "`modprobe nvidia`; after an update of the driver or the kernel, reboot")
    return Finding("ok", "no NVIDIA GPU: no device in /dev, and no GPU listed by a driver")


def _models() -> list[str]:
    """Return the models of the GPUs that the driver lists."""
    found = []
    for path in sorted(_DRIVER.glob("gpus/*/information")):
        try:
            lines = path.read_text().splitlines()
        except OSError:
            lines = []
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("Model")]
        found += names or ["an NVIDIA GPU"]
    return found


def _number(count: int) -> str:
    return f"{count} NVIDIA device{'' if count == 1 else 's'}"


def judge(result: dict[str, object], num_devices: int) -> Finding:
    """Return the finding for the result of the trial."""
    if not result["cuda"]:
        why = "torch is built without CUDA" if result["built"] is None else "torch cannot use them"
        remedy = "install torch with CUDA" if result["built"] is None else "check `nvidia-smi` and CUDA_VISIBLE_DEVICES"
        return Finding("note", f"{_number(num_devices)}, but {why}", remedy)
    devices = result["devices"]
    assert isinstance(devices, list)
    names = ", ".join(map(str, devices))
    if not result.get("pinned"):
        return Finding(
            "note",
            f"{names}: CUDA cannot pin shared memory ({result.get('trouble') or 'torch reports it as not pinned'}), "
            "so pin_memory=True copies each batch once",
            "ulimit -l unlimited; in a container, docker run --ulimit memlock=-1",
        )
    return Finding("ok", f"{names}: the ring can be pinned, so pin_memory=True copies nothing")
