"""Measures of the house: docstrings, the width of lines, summaries."""

import ast
import importlib
import inspect
import json
import pkgutil
import re
import sys
from pathlib import Path

import vaenb

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from sitecheck import long_lines  # noqa: E402

# What `pip install 'vaenb[jax]'` brings.
INSTALLED = set(
    "IPython PIL anywidget filelock h5py ipywidgets keras matplotlib numpy platformdirs scipy"
    " sklearn traitlets typer vaenb".split()
)


def modules():
    for found in pkgutil.iter_modules(vaenb.__path__):
        if not found.name.startswith("_"):
            yield importlib.import_module(f"vaenb.{found.name}")


def public(module):
    """Name -> object of what the module defines for others, methods of its classes included."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(value) or inspect.isclass(value):
            yield f"{module.__name__}.{name}", value
        if inspect.isclass(value):
            for own, member in vars(value).items():
                member = getattr(member, "__func__", member)
                if not own.startswith("_") and inspect.isfunction(member):
                    yield f"{module.__name__}.{name}.{own}", getattr(value, own)


def test_every_public_definition_says_what_it_is():
    found = [item for module in modules() for item in public(module)]
    assert len(found) > 700
    assert [name for name, value in found if not inspect.getdoc(value)] == []


def test_lines_of_the_package_end_at_column_100():
    for path in sorted((ROOT / "vaenb").glob("*.py")):
        if path.name != "_modidx.py":  # nbdev writes it, and the lists of names
            text = re.sub(r"(?ms)^__all__ = \[.*?\]$", "", path.read_text())
            long = [line for line in text.splitlines() if len(line) > 100]
            assert long == [], f"{path.name}: {long[0]}"


def test_lines_of_the_chapters_fit_the_page():
    assert list(long_lines(ROOT / "nbs")) == []


def test_lines_of_a_chapter_that_are_too_long_are_named(tmp_path):
    """Code and text output; of HTML, the plain text beside it is not shown."""

    def cell(name, source, **data):
        outputs = [{"output_type": "display_data", "metadata": {}, "data": data}] if data else []
        return {"id": name, "cell_type": "code", "source": [source], "outputs": outputs}

    wide_print = {"output_type": "stream", "name": "stdout", "text": ["1\n", "x" * 89 + "\n"]}
    cells = [
        cell("fits", "x" * 100, **{"text/plain": "x" * 88}),
        cell("html", "f()", **{"text/html": "<b>x</b>", "text/plain": "x" * 200}),
        cell("caption", "#| fig-cap: " + "x" * 200),
        {"id": "prose", "cell_type": "markdown", "source": ["x" * 200]},
        cell("code", "x" * 101),
        cell("value", "f()", **{"text/plain": ["x" * 90]}),
        {**cell("print", "f()"), "outputs": [wide_print]},
    ]
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "10_one.ipynb").write_text(json.dumps({"cells": cells}))
    assert list(long_lines(tmp_path)) == [
        "part/10_one.ipynb, cell code: a line of code has 101 columns, and 100 fit.",
        "part/10_one.ipynb, cell value: a line of output has 90 columns, and 88 fit.",
        "part/10_one.ipynb, cell print: a line of output has 89 columns, and 88 fit.",
    ]


def test_the_summary_of_a_chapter_is_one_line():
    for path in sorted((ROOT / "nbs").glob("*/*.ipynb")):
        text = path.read_text()
        if "default_exp" not in text:  # a story
            continue
        title = "".join(json.loads(text)["cells"][0]["source"])
        summary = re.search(r"(?m)^> (.*)$", title)
        assert summary and len(summary[1]) <= 94, f"{path.name}: {title}"


def imported(source):
    """The packages that a cell cannot do without: imports that no function, `if` or `try` holds."""
    lines = ("" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines())
    for node in ast.parse("\n".join(lines)).body:
        names = [node.module] if isinstance(node, ast.ImportFrom) else []
        names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
        yield from (name.partition(".")[0] for name in names)


def test_a_chapter_says_what_it_needs_beside_the_package():
    """A chapter runs where only the package is installed, or says what else to install."""
    extras = {"pandas": "vaenb[table]", "pyarrow": "vaenb[table]"}
    for path in sorted((ROOT / "nbs").glob("*/*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        prose = "".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
        commands = " ".join(re.findall(r"`pip install ([^`]+)`", prose))
        for cell in cells:
            if cell["cell_type"] == "code" and "eval: false" not in "".join(cell["source"]):
                for name in set(imported("".join(cell["source"]))) - sys.stdlib_module_names:
                    known = name in INSTALLED or extras.get(name, name) in commands
                    assert known, f"{path.name}, cell {cell['id']}: {name} may not be installed"
