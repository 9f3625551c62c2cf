"""The explorer in a real JupyterLab: the hand moves, the kernel decodes, the pictures change; and a
kernel that is gone is said to be gone."""

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import lab
import pytest

CHAPTER = Path(__file__).resolve().parent.parent / "nbs" / "seeing" / "62_explorer.ipynb"
CELLS = [
    """
import keras
from vaenb import data, VAE, dense, LatentExplorer
keras.utils.set_random_seed(0)
digits = data.digits()
model = VAE.for_data(digits, latent_dim=4, network=dense((32,)))
model.fit(digits.train.x, epochs=4, batch_size=64, verbose=0)
explorer = LatentExplorer(model, digits)
explorer
"""
]

pytestmark = pytest.mark.rotating


class View(lab.Canvases):
    "An explorer in a notebook: what is seen, and how to wait for it to change."

    def __init__(self, page, cell):
        self.page, self.el = page.page, cell.locator(".vx").first
        self.picture = self.el.get_by_role("img", name="The picture that the code stands for")
        self.settle(self.picture)

    def settle(self, canvas):
        "The pixels, once something has been drawn."
        self.page.wait_for_function("c => c.frame", arg=canvas.element_handle(), timeout=15_000)
        return self.pixels(canvas)


def test_in_the_chapter_every_hand_moves_the_picture(tmp_path):
    with lab.opened(CHAPTER, tmp_path) as page:
        page.run_all(seconds=300)
        assert list(page.errors()) == []
        cell = page.page.locator(".jp-CodeCell", has=page.page.locator(".vx"))
        view = View(page, cell)
        slider = view.el.get_by_role("slider").first
        view.changes(lambda: view.drag(slider, (0.5, 0.5), (0.9, 0.5)), name="dragging a slider")
        view.changes(lambda: slider.press("ArrowLeft"), name="an arrow key")
        view.changes(lambda: view.el.get_by_role("button", name="Random").click(), name="Random")
        view.changes(
            lambda: view.el.get_by_role("spinbutton").first.fill("-2"), name="typing a number"
        )
        where = view.el.get_by_role("application", name="Map of the codes")
        view.changes(lambda: where.click(position={"x": 60, "y": 60}), name="clicking the map")
        view.changes(lambda: view.drag(where, (0.3, 0.3), (0.8, 0.7)), name="dragging over the map")
        view.changes(
            lambda: view.el.get_by_label("decoded background").check(), where, "the background"
        )

        view.el.get_by_role("tab", name="Your image").click()
        original = view.el.get_by_role("img", name="The original")
        view.settle(original)
        view.changes(
            lambda: view.el.get_by_label("example, 0 to").fill("41"),
            original,
            "an example's number",
        )
        view.changes(
            lambda: view.drag(
                view.el.get_by_role("application", name="Drawing pad"), (0.5, 0.1), (0.5, 0.9)
            ),
            original,
            "drawing",
        )
        view.el.get_by_text("Your drawing").wait_for()

        view.el.get_by_role("tab", name="New samples").click()
        first = view.el.get_by_role("button", name="Sample 1", exact=True).locator("canvas")
        view.settle(first)
        view.changes(
            lambda: view.el.get_by_role("combobox", name="from", exact=True).select_option(
                "a mixture of ten normals"
            ),
            first,
            "the sampler",
        )
        view.changes(
            lambda: view.el.get_by_role("button", name="Another seed").click(), first, "the seed"
        )
        view.el.get_by_label("nearest training image").check()
        view.el.get_by_role("button", name="the nearest training image").first.wait_for()
        view.el.get_by_role("button", name="Sample 3;").click()
        page.append("""
import time
for _ in range(50):     # the view tells its state a moment after the hand has rested
    drawn = list(explorer.samplers)[0].sample(16, explorer.state["sampling"]["seed"])
    if abs(explorer.z - drawn[2]).max() < 1e-5: break
    time.sleep(0.1)
else: raise AssertionError(explorer.state)""")
        assert page.console == [] and list(page.errors()) == []


# What JupyterLab does with these keys in command mode: restart the kernel, insert, delete, cut
# and convert cells, select all of them, undo, run.
KEYS = "0 . 0 0 a b d d x m y c v z l o Control+a Shift+ArrowDown Shift+Enter Control+Enter".split()


def test_no_key_pressed_in_the_explorer_reaches_the_notebook(tmp_path):
    with lab.opened([*CELLS, "'another cell'"], tmp_path) as page:
        page.run_all()
        view = View(page, page.cell(0))
        page.record_commands()
        slider = view.el.get_by_role("slider").first
        where = view.el.get_by_role("application", name="Map of the codes")
        number = view.el.get_by_role("spinbutton").first
        before = page.cells()
        controls = {
            "slider": slider,
            "number": number,
            "map": where,
            "button": view.el.get_by_role("button", name="Random"),
            "check box": view.el.get_by_role("checkbox").first,
            "select": view.el.get_by_role("combobox").first,
            "tab": view.el.get_by_role("tab").first,
            "text": view.el.get_by_label("The code as NumPy text"),
            "between the controls": view.el,
        }
        view.el.get_by_text("Take it along").click()
        slider.click()
        number.click()
        for key in ("Control+a", *"0.00"):
            page.page.keyboard.press(key)
        assert number.input_value() == "0.00", "the keys arrive in the field"
        assert page.commands() == []
        for name, control in controls.items():
            control.click(position={"x": 5, "y": 5})
            if name == "select":
                page.page.keyboard.press("Enter")  # closes its list
            for key in KEYS:
                page.page.keyboard.press(key)
            assert page.commands() == [], name
        assert page.page.locator(".jp-Dialog").count() == 0
        assert page.cells() == before and page.page.locator(".jp-Cell").count() == 2
        assert page.page.locator(".jp-mod-multiSelected").count() == 0
        slider.press("Escape")
        page.page.keyboard.press("b")
        assert page.commands() == ["notebook:insert-cell-below"], "Escape leaves the explorer"
        assert list(page.errors()) == [] and page.console == []


INKS = """([c, ...inks]) => {
    const { data } = c.getContext("2d").getImageData(0, 0, c.width, c.height);
    return inks.map((ink) => {
        let n = 0;
        for (let i = 0; i < data.length; i += 4)
            n += data[i + 3] > 250 && ink.every((v, k) => Math.abs(data[i + k] - v) < 4);
        return n;
    });
}"""
DARK_INK, LIGHT_INK = [0x23, 0x24, 0x1F], [0xE9, 0xE6, 0xDD]  # the explorer's on light and dark


def test_after_a_change_of_theme_the_map_has_the_ink_of_the_new_one(tmp_path):
    with lab.opened(CELLS, tmp_path) as page:
        page.run_all()
        view = View(page, page.cell(0))
        where = view.el.get_by_role("application", name="Map of the codes")

        def inks():
            page.page.evaluate("new Promise((done) => setTimeout(done, 1500))")  # late style sheets
            return page.page.evaluate(INKS, [where.element_handle(), DARK_INK, LIGHT_INK])

        dark, light = inks()
        assert dark > 20 and light < 10
        for on in (True, False, True):
            page.dark(on)
            dark, light = inks()
            old, new = (dark, light) if on else (light, dark)  # a few pixels are mixed by chance
            assert new > 20 and old < 10, (on, dark, light)


def test_a_slow_decoder_builds_no_queue_and_python_moves_the_view(tmp_path):
    with lab.opened(CELLS, tmp_path) as page:
        page.run_all()
        view = View(page, page.cell(0))
        page.append("""
import time
quick, times = model.decode, []
def decode(z):
    times.append(time.time()); time.sleep(0.15); return quick(z)
model.decode = decode""")
        slider = view.el.get_by_role("slider").first
        view.changes(lambda: [slider.press("ArrowRight") for _ in range(25)], name="many steps")
        shown = float(view.el.get_by_role("spinbutton").first.input_value())
        page.append(
            "import numpy as np; time.sleep(0.5); n = len(times); print(n, "
            "round(float(explorer.z[explorer.facts['order'][0]]), 2))"
        )
        n, value = page.text(-1).split()
        assert 1 <= int(n) < 20 and abs(float(value) - shown) < 0.011, (n, value, shown)
        page.append(
            "model.decode = quick; explorer.state = {**explorer.state, 'z': [0.0, 0.0, 0.0, 2.5]}"
        )
        name = view.el.get_by_role("spinbutton", name="z[3]")
        page.page.wait_for_function(
            "c => c.value === '2.50'", arg=name.element_handle(), timeout=10_000
        )
        assert list(page.errors()) == [] and page.console == []


def test_a_kernel_that_is_slow_is_waited_for_and_one_that_is_gone_is_said_to_be_gone(tmp_path):
    with lab.opened(CELLS, tmp_path) as page:
        page.run_all()
        view = View(page, page.cell(0))
        page.append(
            "import time; quick = model.decode; model.decode = lambda z: time.sleep(6) or quick(z)"
        )
        status, before = view.el.get_by_role("status"), view.pixels(view.picture)
        view.el.get_by_role("slider").first.press("End")
        status.get_by_text("has not answered").wait_for(timeout=6000)
        view.await_change(view.picture, before)
        page.page.wait_for_function(
            "s => s.textContent === ''", arg=status.element_handle(), timeout=5000
        )

        for end in (page.restart_kernel, page.kill_kernel, page.shut_down_kernel):
            end()
            slider = view.el.get_by_role("slider").first
            view.changes(lambda: slider.press("ArrowLeft"), name="a slider without its kernel")
            view.el.get_by_role("status").get_by_text("run the cell again").wait_for(timeout=6000)
            view.changes(lambda: view.el.get_by_role("button", name="Random").click())
            view.el.get_by_role("tab", name="Your image").click()
            original = view.el.get_by_role("img", name="The original")
            view.settle(original)
            pad = view.el.get_by_role("application", name="Drawing pad")
            view.changes(lambda: view.drag(pad, (0.5, 0.1), (0.5, 0.9)), original, "drawing")
            assert page.cell(0).locator(".vx").locator("visible=true").count() == 1
            if end == page.shut_down_kernel:
                break
            page.run_all()
            view = View(page, page.cell(0))
            page.page.wait_for_function(
                "s => s.textContent === ''",
                arg=view.el.get_by_role("status").element_handle(),
                timeout=20_000,
            )
            view.changes(
                lambda: view.el.get_by_role("slider").first.press("ArrowLeft"),
                name="a slider after the cell has run again",
            )


def alive(page, place):
    "The explorer below `place` moves its picture, encodes and samples."
    view = View(page, place)
    view.changes(lambda: view.el.get_by_role("slider").first.press("End"), name="a slider")
    view.changes(lambda: view.el.get_by_role("button", name="Random").click(), name="Random")
    view.el.get_by_role("tab", name="Your image").click()
    original = view.el.get_by_role("img", name="The original")
    view.settle(original)
    pad = view.el.get_by_role("application", name="Drawing pad")
    view.changes(lambda: view.drag(pad, (0.5, 0.1), (0.5, 0.9)), original, "drawing")
    assert view.el.get_by_role("status").inner_text() == ""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    "A notebook of one's own that was run, saved and opened again in JupyterLab."
    folder = tmp_path_factory.mktemp("saved")
    with lab.opened(CELLS, folder) as page:
        page.run_all()
        View(page, page.cell(0))
        page.save()
        page.shut_down_kernel()
        page.reopen()
        alive(page, page.cell(0))
        text = page.cell(0).locator(".jp-OutputArea").inner_text()
        assert "not found" not in text and "Error" not in text
        assert page.cell(0).locator(".vx").locator("visible=true").count() == 1
        assert page.cell(0).get_by_text("Trust Notebook").locator("visible=true").count() == 0
        known = "widget model not found"  # ipywidgets' own word about the output that we hide
        assert [line for line in page.console if known not in line] == []
    return page.file


def test_a_saved_notebook_that_is_opened_again_is_alive(saved):
    outputs = json.loads(saved.read_text())["cells"][0]["outputs"]
    assert [len(o["data"].get("text/html", "")) > 0 for o in outputs] == [False, True]
    assert sum(len(json.dumps(o)) for o in outputs) < 700_000


def test_an_untrusted_notebook_shows_a_still_picture_and_the_word_trust(saved, tmp_path):
    with lab.opened(saved, tmp_path) as page:  # another server, which has not signed it
        output = page.cell(0).locator(".jp-OutputArea")
        output.get_by_text("Trust Notebook").wait_for()
        picture = output.get_by_role("img", name="A map of codes")
        assert picture.evaluate("i => i.complete && i.naturalWidth > 600 && i.clientWidth > 300")
        assert output.locator(".vx").count() == 0 and "Error" not in output.inner_text()
        page.page.once("dialog", lambda d: d.accept())
        page.command("notebook:trust")
        page.page.locator(".jp-Dialog").get_by_role("button", name="Trust").click()
        page.await_runs()
        page.save()
        page.reopen()
        alive(page, page.cell(0))


@contextmanager
def offline(address):
    "A page of Chromium's without any network, and what it asks for."
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=lab.chromium(), args=lab.FLAGS)
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        own = ("file:", "data:", "blob:")
        tab.route("**/*", lambda r: r.continue_() if r.request.url.startswith(own) else r.abort())
        tab.goto(address)
        try:
            yield lab.Lab(tab, None, None)
        finally:
            browser.close()


@pytest.mark.parametrize("execute", [False, True], ids=["as saved", "run by nbconvert"])
def test_the_page_that_nbconvert_makes_is_alive(saved, tmp_path, execute):
    options = ["--to", "html", "--output-dir", str(tmp_path), *["--execute"] * execute]
    subprocess.run(
        [sys.executable, "-m", "nbconvert", *options, str(saved)], check=True, capture_output=True
    )
    with offline((tmp_path / f"{saved.stem}.html").as_uri()) as page:
        alive(page, page.page.locator("body"))
