"""How the documentation site is built; see README.md for the command."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from distill_core import __version__

# sphinx-autodoc-typehints meets Sphinx 10 in its own time.
warnings.filterwarnings("ignore", message=".*set_application")

project = "distill"
copyright = "the authors of distill, MIT licence"
version = release = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_autodoc_typehints",
    "sphinx_copybutton",
    "sphinx_design",
    "docs._extensions.pages",
]
html_theme = "furo"
html_title = f"distill {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
exclude_patterns = ["_build", "_extensions", "figures"]
default_role = "code"
smartquotes_action = "qe"  # no dashes: help texts name options such as --out
myst_enable_extensions = ["deflist", "dollarmath", "colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Source", "notes_style")]
always_document_param_types = False
typehints_use_signature = True
typehints_use_signature_return = True
copybutton_prompt_text = "$ "
suppress_warnings = ["sphinx_autodoc_typehints.guarded_import"]
