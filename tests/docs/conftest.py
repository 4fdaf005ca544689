"""The interpreters that fork the examples, and the site of the documentation."""

import importlib.util
import shutil
import subprocess
import sys
import tempfile

import pytest
from helpers.compiled import keep_compiled
from helpers.new_fork_servers import interpreter
from helpers.pages import DOCS

keep_compiled()


@pytest.fixture(scope="session", autouse=True)
def _servers_directory():
    """Set a folder for the servers of the examples: another run of these tests may use the same names."""
    with tempfile.TemporaryDirectory(prefix="mpq", dir="/tmp") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPQUEUE_HOME", folder)
        yield


@pytest.fixture(scope="session")
def launcher():
    with interpreter(*_LAUNCHER) as made:
        yield made


_LAUNCHER = ("mpqueue.workers.launcher", "helpers.new_fork_servers")


def _launcher_with(framework, *modules):
    """Start an interpreter with a framework and modules that it imports late. Imports take most of an example's time.

    The fork servers of the examples are forks, too, because those that unpickle the source would import it again.
    """
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    # Without this option, pyarrow, which pandas imports, starts a thread. A process with threads must not be forked.
    backend = "tensorflow" if framework == "tensorflow" else "jax"  # TensorFlow imports Keras
    environ = {"KERAS_BACKEND": backend, "JE_ARROW_MALLOC_CONF": "background_thread:false"}
    return interpreter(*_LAUNCHER, framework, *modules, environ=environ)


@pytest.fixture(scope="session")
def launcher_with_torch():
    """Start an interpreter with torch, the module that its optimizers import, and Lightning if it is installed."""
    lightning = ["lightning"] if importlib.util.find_spec("lightning") else []
    with _launcher_with("torch", "torch._dynamo", *lightning) as made:
        yield made


@pytest.fixture(scope="session")
def launcher_with_keras():
    """Start an interpreter with Keras and its backend JAX."""
    with _launcher_with("keras") as made:
        yield made


@pytest.fixture(scope="session")
def launcher_with_tensorflow():
    with _launcher_with("tensorflow") as made:
        yield made


# The garbage collector would take a fifth of the time.
_SPHINX = "import gc, sys; gc.disable(); from sphinx.cmd.build import main; sys.exit(main(sys.argv[1:]))"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def browser():
    """Return the path of Chromium, or None."""
    return next(filter(None, map(shutil.which, _BROWSERS)), None)


@pytest.fixture(scope="session")
def built_site(tmp_path_factory, browser):
    """Return the process that built the site, the folder of parsed pages, and the folder of HTML for a browser."""
    folder = tmp_path_factory.mktemp("built")
    # The builder `dummy` resolves all references and writes no page, in 12 s of an idle CPU instead of 20.
    builder = ["-b", "html"] if browser else ["-D", "smartquotes=0", "-D", "html_theme=basic", "-b", "dummy"]
    options = [*"--fail-on-warning --keep-going --quiet".split(), *builder, "-d", folder / "doctrees"]
    done = subprocess.run(
        [sys.executable, "-c", _SPHINX, *options, DOCS, folder / "site"],
        capture_output=True,
        text=True,
        timeout=890,  # the builder took more than 290 s on a very busy machine
        check=False,
    )
    return done, folder / "doctrees", folder / "site"
