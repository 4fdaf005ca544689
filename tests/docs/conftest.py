"""The interpreters that fork the examples, and the site of the documentation."""

import functools
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack

import pytest
from helpers.doc_pages import DOCS
from helpers.jax_cache import keep_compiled
from helpers.new_fork_servers import interpreter

keep_compiled()


@pytest.fixture(scope="session", autouse=True)
def _servers_directory():
    """Set a folder for the servers of the examples: another run of these tests may use the same names."""
    with tempfile.TemporaryDirectory(prefix="mpq", dir="/tmp") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPQUEUE_HOME", folder)
        yield


_LAUNCHER = ("mpqueue.backends.start.launcher", "helpers.new_fork_servers")


@pytest.fixture(scope="session")
def launchers():
    """Return a function that starts an interpreter with a framework and modules that it imports late, once.

    Imports take most of an example's time. The fork servers of the examples are forks, too, because servers that
    unpickle the source would import the framework again.
    """

    @functools.cache
    def launcher_with(framework):
        modules = [framework] if framework else []
        if framework == "torch":  # the module that its optimizers import, and Lightning
            modules += ["torch._dynamo", *(["lightning"] if importlib.util.find_spec("lightning") else [])]
        # Without this option, pyarrow, which pandas imports, starts a thread. A process with threads must not be forked.
        environ = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
        environ["KERAS_BACKEND"] = "tensorflow" if framework == "tensorflow" else "jax"  # TensorFlow imports Keras
        return stack.enter_context(interpreter(*_LAUNCHER, *modules, environ=environ if framework else None))

    with ExitStack() as stack:
        yield launcher_with


@pytest.fixture(scope="session")
def launcher(request, launchers):
    """Return the interpreter with the framework that is the parameter; an empty string is none."""
    if request.param and importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return launchers(request.param)


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
    command = [sys.executable, "-c", _SPHINX, *options, DOCS, folder / "site"]
    # The builder took more than 290 s on a very busy machine.
    done = subprocess.run(command, capture_output=True, text=True, timeout=890, check=False)
    return done, folder / "doctrees", folder / "site"
