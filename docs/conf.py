"""The settings of Sphinx for the site that ``scripts/docs`` builds."""

from importlib.util import find_spec

from sphinx.ext.autodoc.mock import _MockObject

from mpqueue import __version__

project = "mpqueue"
author = "the mpqueue developers"
project_copyright = author
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
if find_spec("sphinx_copybutton") is not None:  # the extra `docs` has it; a site without it lacks only the buttons
    extensions.append("sphinx_copybutton")
autosummary_generate = False  # tables only
default_role = "py:obj"  # the docstrings name things in single backticks; what the reference has, becomes a link
myst_heading_anchors = 3
smartquotes_action = "D"  # dashes, as between a parameter and what it means; quotes are meant as they stand

# The reference is made from docstrings. Frameworks are large, and some exclude each other: stand-ins take their places,
# also where they are installed, so that the site is the same everywhere.
autodoc_mock_imports = ["jax", "keras", "ray", "tensorflow", "torch"]
_MockObject.__or__ = _MockObject.__ror__ = lambda self, _other: self  # annotations such as ``torch.dtype | None``
autodoc_typehints = "description"
maximum_signature_line_length = 100
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # or an attribute such as `bytes` would be where each mention of that name leads
napoleon_custom_sections = [
    (title, "params_style")
    for title in ("Reading raises", "The source raises", "The iterator raises", "The queue runner reports")
]

html_theme = "furo"
html_title = f"mpqueue {release}"
html_static_path = ["_static"]
html_css_files = ["mpqueue.css"]
html_copy_source = False
html_show_sourcelink = False

# What `scripts/docs --links` asks for; the pages of the project itself are checked by each build.
linkcheck_timeout = 20
linkcheck_retries = 2


def _show_constants(app: object, what: str, name: str, value: object, options: object, lines: list[str]) -> None:  # noqa: ARG001 - Sphinx calls it
    """Show the value of a constant, whose docstring would be that of its type."""
    if type(value) in (str, int, float, tuple):
        lines[:] = [f"``{value!r:.60}``"]


def setup(app: object) -> None:
    """Have Sphinx ask for it."""
    app.connect("autodoc-process-docstring", _show_constants)
