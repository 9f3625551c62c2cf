"""What all tests share: how much is tested, one cache of compiled programs, and who runs when.

With `pytest -n 2` every file is one group, which one process runs from its first test to its last,
so that what a file prepares is prepared once. Tests that wait for a picture never compete with each
other: all files that open a browser or JupyterLab are one group together.

`make test` gives `--today`: the test functions that are marked `rotating` take turns (see
tools/turns.py), unless they were changed lately; those with the same `rotating("name")` have
their turn together. Of the cases of a function that is marked `sample(n)` it runs n, other ones in
each turn, or all if it was changed lately. In a file that runs once more on another backend,
all functions take turns there. Without the option, and in `make test-all`, everything runs.
"""

import ast
import functools
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from thorough import ROTATION, THOROUGH, some, turns

BROWSER = ("test_browser", "test_explorer", "test_explorer_lab", "test_lab", "test_monitor_lab")
# Where hypothesis keeps what it has read in our modules: not beside them.
os.environ.setdefault(
    "HYPOTHESIS_STORAGE_DIRECTORY", str(Path(tempfile.gettempdir()) / "vaenb-hypothesis")
)
CPU = {}  # the processor time at the end of the phase before
TURNS = {}  # rotating test function -> its place, in the order of collection
# The longest first, so that the processes end at about the same time; all others follow.
LONGEST = ("browser", "test_parts", "test_cli", "test_numerics", "test_model", "test_training")


@pytest.fixture(autouse=True)
def numbers_of_its_own(request, monkeypatch):
    "What a test draws from the file's RNG is the same whichever tests ran before it."
    if hasattr(request.module, "RNG"):
        monkeypatch.setattr(request.module, "RNG", np.random.default_rng(0))


def pytest_addoption(parser):
    parser.addoption(
        "--today", action="store_true", help="of the tests marked `rotating` those of today"
    )


def pytest_configure(config):
    """What JAX compiles is kept for all processes of one run; the first makes the folder."""
    config.addinivalue_line("markers", "rotating(name): `make test` runs it in its turn")
    config.addinivalue_line("markers", "sample(n): `make test` runs n of its cases")
    if config.getoption("--today"):
        os.environ["VAENB_TODAY"] = "1"
    os.environ["VAENB_PLAN"] = "rule"  # no timing decides how a test trains; see test_plan.py
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        config.compiled = tempfile.mkdtemp(prefix="vaenb-compiled-")
        os.environ["JAX_COMPILATION_CACHE_DIR"] = config.compiled


def pytest_unconfigure(config):
    if hasattr(config, "compiled"):
        shutil.rmtree(config.compiled, ignore_errors=True)


def cpu_seconds():
    """Processor time of this process so far, and of those it has waited for."""
    return sum(os.times()[:4])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Writes into the report of each phase the processor time since the phase before it."""
    report, now = (yield), cpu_seconds()
    report.user_properties = [("cpu", now - CPU.get("last", 0.0))]
    CPU["last"] = now
    return report


def pytest_terminal_summary(terminalreporter):
    """Which files take most of the processor, whatever else the machine does meanwhile."""
    files = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            spent = dict(getattr(report, "user_properties", ())).get("cpu", 0.0)
            file = getattr(report, "nodeid", "").split("::")[0]
            files[file] = files.get(file, 0.0) + spent
    terminalreporter.section("CPU seconds")
    terminalreporter.write_line(f"{sum(files.values()):7.0f}  all")
    for file, spent in sorted(files.items(), key=lambda pair: -pair[1])[:15]:
        terminalreporter.write_line(f"{spent:7.0f}  {file}")


def pytest_report_header(config):
    if THOROUGH:
        return "everything of each kind, as `make test-all`"
    return (
        f"one of each kind, as `make test` (VAENB_ROTATION={ROTATION} repeats the choice; "
        "VAENB_THOROUGH=1 tests everything)"
    )


def group(nodeid):
    """The group of a test: its file, or `browser`."""
    name = Path(nodeid.split("::")[0]).stem
    return "browser" if name in BROWSER else name


@functools.cache
def is_changed(path, name):
    """Whether the code of a test differs from that of twenty commits ago."""

    def body(text):
        functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
        return [ast.dump(ast.Module(node.body)) for node in functions if node.name == name]

    return turns.is_changed(path, body)


def function(item):
    """The name of a test without its parameters."""
    return item.nodeid.split("[")[0]


def sampled(items):
    """Of the cases of functions that are marked `sample` those that do not run today."""
    cases = {}
    for item in items:
        if item.get_closest_marker("sample") and not is_changed(item.path, item.originalname):
            cases.setdefault(function(item), []).append(item)
    left = set()
    for name, several in cases.items():
        n = several[0].get_closest_marker("sample").args[0]
        left |= {*several} - {*some(several, n, name)}
    return left


def is_todays(item):
    """Whether a test always runs, or its code was changed lately, or it has its turn."""
    marker = item.get_closest_marker("rotating")
    if "VAENB_INNER" not in os.environ:
        if not marker or is_changed(item.path, item.originalname):
            return True
    name = marker.args[0] if marker and marker.args else function(item)
    return turns.has_turn(TURNS.setdefault(name, len(TURNS)))


def pytest_collection_modifyitems(config, items):
    if config.getoption("--today") and not THOROUGH:
        groups, left = {True: [], False: []}, sampled(items)
        for item in items:
            groups[item not in left and is_todays(item)].append(item)
        config.hook.pytest_deselected(items=groups[False])
        items[:] = groups[True]
    place = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(group(item.nodeid), len(place)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Gives whole groups to the processes, in the order of the tests.

    Not `--dist loadgroup`: with pytest 9.2, pytest-xdist 3.8 no longer sees the groups
    (https://github.com/pytest-dev/pytest-xdist/issues/1386).
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group(nodeid)

    config.option.loadscopereorder = False
    return ByGroup(config, log)
