"""Measures of the house: docstrings, the width of lines, summaries."""

import importlib
import inspect
import json
import pkgutil
import re
from pathlib import Path

import vaenb

ROOT = Path(__file__).parent.parent


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


def test_the_summary_of_a_chapter_is_one_line():
    for path in sorted((ROOT / "nbs").glob("*/*.ipynb")):
        text = path.read_text()
        if "default_exp" not in text:  # a story
            continue
        title = "".join(json.loads(text)["cells"][0]["source"])
        summary = re.search(r"(?m)^> (.*)$", title)
        assert summary and len(summary[1]) <= 94, f"{path.name}: {title}"
