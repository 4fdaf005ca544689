"""A plugin of pytest that skips a test if a package that the test imports is not installed.

The import may happen in the test's module, in a fixture or in the test, directly or through mpqueue: the test itself
does not have to declare its packages. If the import happens in another process, the test calls `pytest.importorskip`.
A package that is installed and cannot be imported is an error, and so is a module that is not in the list below.
"""

import importlib.util
import re

import pytest

# What mpqueue and its tests can import and that neither mpqueue nor pytest requires: the module and its project.
PROJECTS = {
    "PIL": "pillow", "absl": "absl-py", "google.protobuf": "protobuf", "google_crc32c": "google-crc32c",
    "opentelemetry": "opentelemetry-sdk", "prometheus_client": "prometheus-client", "skimage": "scikit-image",
    "sklearn": "scikit-learn", "tensorflow": "tensorflow-cpu",
}  # fmt: skip
PROJECTS |= {
    name: name
    for name in (
        "accelerate", "aiohttp", "anyio", "array_record", "boto3", "build", "datasets", "flax", "fsspec", "hatchling",
        "ipykernel", "jax", "jupyter_client", "keras", "lightning", "ml_dtypes", "moto", "mypy", "optax", "pandas",
        "pyarrow", "pyright", "pyte", "ray", "requests", "ruff", "s3fs", "scipy", "sphinx", "streaming", "tensorboardX",
        "threadpoolctl", "torch", "torchdata", "tqdm", "transformers", "zstandard",
    )
}  # fmt: skip


def missing_project(error):
    """Return the name of the project that is not installed and that an import needs, or None."""
    while isinstance(error, ImportError | pytest.Collector.CollectError):
        name = getattr(error, "name", None) or "."
        for module, project in PROJECTS.items():
            # Without any package of Google's, the module that is missing is `google`.
            if f"{module}.".startswith(f"{name}.") or name.startswith(f"{module}."):
                return None if is_installed(module) else project
        error = error.__cause__
    return None


def is_installed(module):
    """Return whether a module can be found. Only the packages that it is in are imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is missing
        return False


def skip_if_missing(output):
    """Skip the test if a program's output shows that an import failed because a package is not installed."""
    for name in re.findall(r"ModuleNotFoundError: No module named '(.+)'", output):
        if project := missing_project(ImportError(name=name)):
            pytest.skip(f"{project} is not installed")


class _Module(pytest.Module):
    """A module of tests that is skipped if a package that it imports is not installed."""

    def collect(self):
        try:
            return super().collect()
        except self.CollectError as error:
            if (project := missing_project(error)) is None:
                raise
        pytest.skip(f"{project} is not installed", allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    """Collect a module's tests, unless it imports a package that is not installed."""
    return _Module.from_parent(parent, path=module_path)


def _run():
    """Run the hooks of pytest inside of this one.

    The skip is raised after the `except` block. Otherwise it would keep the error, with the frames of the test and the
    files that they have open.
    """
    try:
        return (yield)
    except ImportError as error:
        if (project := missing_project(error)) is None:
            raise
    pytest.skip(f"{project} is not installed")


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup():
    """Skip a test if a fixture imports a package that is not installed."""
    return (yield from _run())


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call():
    """Skip a test that imports a package that is not installed."""
    return (yield from _run())
