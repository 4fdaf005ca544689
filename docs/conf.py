"""The Sphinx configuration of the site that ``scripts/docs`` builds."""

import re
from importlib.util import find_spec
from pathlib import Path

from sphinx.ext.autodoc.mock import _MockObject
from sphinx.pycode import ModuleAnalyzer, PycodeError

from mpqueue import __version__
from mpqueue.plan.options.signatures import GROUPS

project = "mpqueue"
author = "the mpqueue developers"
project_copyright = author
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
# Installed by the dependency group `docs`; without it, the site only lacks the copy buttons.
if find_spec("sphinx_copybutton") is not None:
    extensions.append("sphinx_copybutton")
autosummary_generate = False  # tables only
default_role = "py:obj"  # names in single backticks in docstrings become links if the reference has them
myst_heading_anchors = 3
smartquotes_action = "D"  # only dashes, as between a parameter and its description; quotes are literal

# The reference is generated from docstrings. Frameworks are large, and some exclude each other, so they are always
# mocked. The site is then the same everywhere.
autodoc_mock_imports = ["jax", "keras", "ray", "tensorflow", "torch"]
_MockObject.__or__ = _MockObject.__ror__ = lambda self, _other: self  # annotations such as ``torch.dtype | None``

# Sphinx reads the modules of all base classes, and imports the real ones of mocked classes: torch, if it is installed.
_source_of_module = ModuleAnalyzer.get_module_source


def _source_of_own_module(name: str) -> object:
    if name.partition(".")[0] != "mpqueue":
        raise PycodeError(f"{name} is not documented here")
    return _source_of_module(name)


ModuleAnalyzer.get_module_source = staticmethod(_source_of_own_module)

# Overloads are for type checkers. A reader needs the one signature with all options and their defaults.
_analyze = ModuleAnalyzer.analyze


def _analyze_without_overloads(self: ModuleAnalyzer) -> None:
    _analyze(self)
    self.overloads = {}


ModuleAnalyzer.analyze = _analyze_without_overloads
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"  # `Args` would list options of later sections, too
maximum_signature_line_length = 100
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # otherwise each mention of `bytes`, for example, would link to an attribute of that name
_RAISED = ("Reading raises", "The source raises", "The iterator raises", "The queue runner reports")
napoleon_custom_sections = [(title, "params_style") for title in (*_RAISED, *tuple(GROUPS)[1:])]

html_theme = "furo"
html_title = f"mpqueue {release}"
html_static_path = ["_static"]
html_css_files = ["mpqueue.css"]
html_search_scorer = str(Path(__file__).with_name("_static") / "scorer.js")
html_copy_source = False
html_show_sourcelink = False

# For `scripts/docs --links`; each build checks the links between the project's pages.
linkcheck_timeout = 20
linkcheck_retries = 2


def _show_constants(app: object, what: str, name: str, value: object, options: object, lines: list[str]) -> None:  # noqa: ARG001 - Sphinx calls it
    """Show the value of a constant instead of the docstring of its type."""
    if type(value) in (str, int, float, tuple):
        lines[:] = [f"``{value!r:.60}``"]


def _insert_tables(app: object, page: str, source: list[str]) -> None:  # noqa: ARG001 - Sphinx calls it
    """Replace comments on pages by tables that are made from the code."""
    source[0] = re.sub("<!-- names of mpqueue.compat.v1 -->", lambda _: _deferred_names(), source[0])
    source[0] = re.sub("<!-- table of metrics -->", lambda _: _metrics(), source[0])


def _metrics() -> str:
    from mpqueue.telemetry.rows import ROWS, TIMES

    lines = ["| Metric | Kind | Meaning |", "|---|---|---|"]
    for row in ROWS:
        name = "_".join(part for part in ("mpqueue", row.name, row.unit) if part) + "_total" * row.is_counter
        by = f" (label `{row.label}`)" if row.label else ""
        lines.append(f"| `{name}` | {'counter' if row.is_counter else 'gauge'} | {row.text}{by} |")
    lines += [f"| `mpqueue_batch_{stage}_seconds` | histogram | {meaning} |" for stage, meaning in TIMES.items()]
    return "\n".join(lines)


def _deferred_names() -> str:
    from mpqueue.tf1.compat.names import Namespaces
    from mpqueue.tf1.compat.surface import NOTES, SURFACE

    deferred = Namespaces("mpqueue.compat.v1", SURFACE, NOTES)
    sections = []
    for path in deferred.paths():
        modules = {*deferred.inside(path), *(["flags"] if path == "app" else [])}
        names = [name for name in deferred.names(path) if name not in modules]
        table = [".. autosummary::", "   :nosignatures:", "", *(f"   {name}" for name in names)] if names else []
        module = f".. py:module:: mpqueue.compat.v1.{path}".rstrip(".")
        title = f"### tf.{path}".rstrip(".")
        sections.append("\n".join([title, "", "```{eval-rst}", module, "", *table, "```", ""]))
    return "\n".join(sections)


def setup(app: object) -> None:
    """Connect the functions to Sphinx."""
    app.connect("autodoc-process-docstring", _show_constants)
    app.connect("source-read", _insert_tables)
