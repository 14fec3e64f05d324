"""Configuration of the documentation."""

import os

import sklearn_meta

# The gallery shows what a call looks like; the full budgets are those of a user.
os.environ.setdefault("SKLEARN_META_QUICK", "1")

project = "sklearn_meta"
author = "sklearn_meta developers"
copyright = f"2026, {author}"
version = release = sklearn_meta.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]

autosummary_generate = True
# One page a class, laid out by the templates, with its methods on it.
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": ["../examples"],
    "gallery_dirs": ["auto_examples"],
    "filename_pattern": "/plot_",
    "ignore_pattern": r"(__init__|demo)\.py",
    "abort_on_example_error": True,
    "show_signature": False,
}

html_theme = "alabaster"
html_theme_options = {
    "description": "Meta-learning across many small tables",
    "page_width": "1100px",
    "sidebar_width": "260px",
}
html_sidebars = {"**": ["about.html", "searchfield.html", "navigation.html"]}


def skip_foreign_member(app, what, name, obj, skip, options):
    """Leave out what a class has from scikit-learn or torch: it is documented there."""
    module = getattr(obj, "__module__", None)
    if callable(obj) and module and not module.startswith("sklearn_meta"):
        return True
    return None


def setup(app):
    """Register the hooks."""
    app.connect("autodoc-skip-member", skip_foreign_member)
