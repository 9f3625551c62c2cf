"""A real JupyterLab in a real browser: what a reader with a kernel sees and touches.

    with lab.opened(notebook, tmp_path) as page:     # `notebook`: a file, or a list of cells' sources
        page.run_all()                               # waits until every cell has run
        page.cell(1).get_by_role("slider")...        # Playwright, inside of the second cell
        assert page.errors() == [] and page.console == []

Nothing leaves the machine, no settings of the user are read or written, and no step sleeps: each awaits what it needs.
"""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import nbformat
import psutil
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from sitecheck import find_chromium  # noqa: E402

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
SETTINGS = {  # what would otherwise ask questions, or leave cells unrendered that are out of sight
    "apputils-extension/notification": {
        "checkForUpdates": False,
        "fetchNews": "false",
        "doNotDisturbMode": True,
    },
    "notebook-extension/tracker": {"windowingMode": "none"},
    "docmanager-extension/plugin": {"autosave": False},
}
# JupyterLab's own complaints, each with its reason. Everything else in the console is a finding.
NOISE = (
    (
        r"^Could not restore the debugger state: Canceled future for debug_request",
        "its debugger was asking when the kernel was restarted",
    ),
)
PANEL = "window.jupyterapp?.shell.currentWidget"
KERNEL = f"{PANEL}?.sessionContext?.session?.kernel"
PIXELS = "c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let s = 7; for (const v of d) s = (s * 31 + v) | 0; return s; }"


def chromium():
    "The path of a Chromium; skips where there is none, but fails under CI=true."
    path = find_chromium()
    if path is None:
        assert os.environ.get("CI") != "true", (
            "no Chromium was found, and CI must open the notebooks"
        )
        pytest.skip("no Chromium was found")
    return path


def write_notebook(sources, path):
    "A notebook of code cells."
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


class Canvases:
    "A view with canvases, in JupyterLab or on any page: `page` is Playwright's, `picture` the canvas that matters most."

    def pixels(self, canvas):
        return canvas.evaluate(PIXELS)

    def await_change(self, canvas, before):
        "Waits until the canvas looks different from what `pixels` gave before."
        self.page.wait_for_function(
            f"([c, before]) => ({PIXELS})(c) !== before",
            arg=[canvas.element_handle(), before],
            timeout=10_000,
        )

    def changes(self, act, canvas=None, name=""):
        "Does something, and waits until the canvas looks different."
        canvas = canvas or self.picture
        before = self.pixels(canvas)
        act()
        try:
            self.await_change(canvas, before)
        except Exception:
            pytest.fail(f"{name or act} does not change the picture")

    def drag(self, control, *places):
        "Mouse down at the first place of a control, along the others, and up; places are shares of its box."
        control.scroll_into_view_if_needed()
        box = control.bounding_box()
        for i, (x, y) in enumerate(places):
            self.page.mouse.move(
                box["x"] + x * box["width"], box["y"] + y * box["height"], steps=1 if i == 0 else 8
            )
            if i == 0:
                self.page.mouse.down()
        self.page.mouse.up()


@contextmanager
def served(folder, state, env=None, settings=None):
    "The address and the process of a JupyterLab that shows `folder` and keeps everything of its own in `state`."
    token, lines, ready = secrets.token_hex(16), [], threading.Event()
    for name, values in {**SETTINGS, **(settings or {})}.items():
        file = state / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "JPY_"))}
    own = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    }
    clean.update({name: str(state / place) for name, place in own.items()}, **(env or {}))
    options = [
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        "--ServerApp.port_retries=50",
        f"--ServerApp.root_dir={folder}",
        f"--IdentityProvider.token={token}",
        "--expose-app-in-browser",
        "--LabApp.news_url=",
        "--ServerApp.terminals_enabled=False",
    ]
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options],
        env=clean,
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )

    def read():
        for line in server.stdout:
            lines.append(line)
            if "http://127.0.0.1" in line:
                ready.set()
        ready.set()

    threading.Thread(target=read, daemon=True).start()
    try:
        assert ready.wait(60) and server.poll() is None, "JupyterLab did not start:\n" + "".join(
            lines
        )
        host = re.search(r"http://127\.0\.0\.1:\d+", "".join(lines))
        assert host, "JupyterLab does not say where it is:\n" + "".join(lines)
        yield host[0] + "/lab/tree/{}?token=" + token, server
    finally:
        family = [
            *psutil.Process(server.pid).children(recursive=True),
            server,
        ]  # the server and its kernels, nothing else
        for process in family:
            process.terminate()
        psutil.wait_procs(family[:-1], timeout=10)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()


@contextmanager
def opened(notebook, tmp_path, env=None, viewport=(1280, 900), settings=None):
    "A `Lab`: the notebook (a copy of the file, or cells from a list of sources), open in JupyterLab, with its kernel ready."
    from playwright.sync_api import sync_playwright

    path, folder, state = chromium(), tmp_path / "root", tmp_path / "lab"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / ("notebook.ipynb" if isinstance(notebook, list) else Path(notebook).name)
    write_notebook(notebook, file) if isinstance(notebook, list) else shutil.copy(notebook, file)
    with served(folder, state, env, settings) as (address, server), sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=FLAGS)
        tab = browser.new_page(viewport={"width": viewport[0], "height": viewport[1]})
        lab = Lab(tab, server, file)
        host = address.split("/lab")[0]
        tab.route(
            "**/*",
            lambda r: (
                r.continue_()
                if r.request.url.startswith((host, "data:", "blob:"))
                else (lab.console.append(f"asks another host for {r.request.url}"), r.abort())
            ),
        )
        tab.goto(address.format(file.name) + "&reset", wait_until="load")
        lab.await_kernel()
        tab.evaluate("window.jupyterapp.shell.collapseLeft()")
        try:
            yield lab
        finally:
            browser.close()


class Lab:
    "A notebook in JupyterLab."

    def __init__(self, page, server, file):
        self.page, self.server, self.file, self.console = page, server, file, []
        page.on("console", lambda m: self.note(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: self.note(f"a script fails: {e}"))

    def note(self, text):
        if not any(re.search(pattern, text) for pattern, reason in NOISE):
            self.console.append(text)

    def wait(self, condition, seconds=60):
        "Waits until a JavaScript expression is true."
        self.page.wait_for_function(condition, timeout=1000 * seconds)

    def await_kernel(self, seconds=60):
        self.wait(f"{KERNEL}?.status === 'idle'", seconds)

    def command(self, name):
        "Starts one of JupyterLab's commands; `await_runs` waits for its end."
        self.page.evaluate(
            "name => { window.runs = (window.runs || 0) + 1; window.jupyterapp.commands.execute(name).finally(() => window.runs--); }",
            name,
        )

    def await_runs(self, seconds=120):
        "Waits until every cell that was started has run (or an error has ended the run) and the kernel is idle."
        self.wait(f"!window.runs && {KERNEL}?.status === 'idle'", seconds)

    def run_all(self, wait=True, seconds=120):
        "Runs all cells; with `wait=False` it returns at once."
        self.command("notebook:run-all-cells")
        if wait:
            self.await_runs(seconds)

    def append(self, source, wait=True, seconds=60):
        "Adds a code cell at the end and runs it."
        self.page.evaluate(
            f"""source => {{
            const notebook = {PANEL}.content, cells = notebook.model.sharedModel;
            cells.insertCell(notebook.model.cells.length, {{ cell_type: "code", source, metadata: {{}}, outputs: [] }});
            notebook.activeCellIndex = notebook.model.cells.length - 1;
        }}""",
            source,
        )
        self.command("notebook:run-cell")
        if wait:
            self.await_runs(seconds)

    def cells(self):
        "The code cells as nbformat has them: source, execution_count, outputs."
        cells = self.page.evaluate(f"{PANEL}.content.model.toJSON().cells")
        return [cell for cell in cells if cell["cell_type"] == "code"]

    def text(self, index):
        "All that the code cell has printed or returned as text."
        join = lambda value: value if isinstance(value, str) else "".join(value)  # noqa: E731
        return "".join(
            join(o.get("text") or o.get("data", {}).get("text/plain", ""))
            for o in self.cells()[index]["outputs"]
        )

    def errors(self):
        "A sentence for every error in an output, and for every code cell that has not run."
        for cell in self.cells():
            source = "".join(cell["source"])
            yield from (
                f"{o['ename']}: {o['evalue']} in {source[:60]!r}"
                for o in cell["outputs"]
                if o["output_type"] == "error"
            )
            if source.strip() and cell["execution_count"] is None:
                yield f"has not run: {source[:60]!r}"

    def cell(self, index):
        "The code cell as a Playwright locator."
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(index)

    def restart_kernel(self):
        "Restarts the kernel as the menu does; outputs stay."
        self.page.evaluate(f"{PANEL}.sessionContext.restartKernel()")
        self.await_kernel()

    def interrupt(self):
        self.page.evaluate(f"{KERNEL}.interrupt()")

    def kernel_process(self):
        "The kernel's own process, found by the name of its connection file."
        name = self.page.evaluate(f"{KERNEL}.id")
        return next(
            p
            for p in psutil.Process(self.server.pid).children(recursive=True)
            if any(name in word for word in p.cmdline())
        )

    def kill_kernel(self):
        "Kills the kernel's process as a lack of memory does; returns when JupyterLab has said so and has a new one."
        self.kernel_process().kill()
        dialog = self.page.locator(".jp-Dialog", has_text="appears to have died")
        dialog.get_by_role("button", name="Ok").click()
        self.await_kernel()

    def shut_down_kernel(self):
        "Ends the kernel for good, as the menu does; the notebook stays open without one."
        self.page.evaluate(f"{PANEL}.sessionContext.shutdown()")
        self.wait(f"!{KERNEL}")

    def save(self):
        "Saves the notebook to `file`."
        self.page.evaluate(f"{PANEL}.context.save()")

    def reopen(self):
        "Opens the page again, as a reader does the next day."
        self.page.reload(wait_until="load")
        self.wait(f"{PANEL}?.content?.model?.cells.length")
        self.await_kernel()

    def record_commands(self):
        "From now on `commands` holds the names of all commands that JupyterLab runs."
        self.page.evaluate(
            "window.ran = [];"
            "window.jupyterapp.commands.commandExecuted.connect((_, { id }) => window.ran.push(id))"
        )

    def commands(self):
        "Commands that JupyterLab has run since `record_commands`."
        return self.page.evaluate("window.ran")

    def dark(self, on=True):
        self.page.evaluate(
            "name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})",
            f"JupyterLab {'Dark' if on else 'Light'}",
        )
        self.wait(f"document.body.dataset.jpThemeLight === '{str(not on).lower()}'")
