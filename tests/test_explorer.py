"""The explorer without a kernel, in a real browser with the network cut: each control moves the
picture, a drawing is encoded, nothing is asked of any host."""

import json
import re
import sys
from pathlib import Path

import keras
import lab
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from sitecheck import served  # noqa: E402

from vaenb import (
    ELBO,
    VAE,
    Autoencoder,
    Dataset,
    DiscretizedLogistic,
    MixtureOfNormals,
    Normal,
    conv,
    data,
    dense,
    explorer,
    plot,
)  # noqa: E402
from vaenb.data import Split  # noqa: E402
from vaenb.explorer import explore_page  # noqa: E402


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = lab.chromium()
    with playwright.sync_playwright() as play:
        window = play.chromium.launch(executable_path=chromium, args=lab.FLAGS)
        yield window
        window.close()


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(0)
    digits = data.digits()
    model = VAE.for_data(
        digits, latent_dim=4, network=dense((64,)), likelihood=DiscretizedLogistic(17)
    )
    model.fit(digits.train.x, epochs=8, batch_size=64, verbose=0)
    return model, digits


@pytest.fixture(scope="module")
def page(trained, tmp_path_factory):
    file = tmp_path_factory.mktemp("explorer") / "explorer.html"
    file.write_text(explore_page(*trained, "Digits"))
    return file


class View(lab.Canvases):
    "An explorer in a page, and all that goes wrong there."

    def __init__(self, browser, address, width=1000, scheme="light", noun="picture"):
        self.page, self.trouble = (
            browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme),
            [],
        )
        self.page.set_default_timeout(8000)
        self.page.on(
            "console", lambda m: self.trouble.append(m.text) if m.type == "error" else None
        )
        self.page.on("pageerror", lambda e: self.trouble.append(f"a script fails: {e}"))
        allowed = (address.rpartition("/")[0], "data:", "blob:")
        self.page.route(
            "**/*",
            lambda r: (
                r.continue_()
                if r.request.url.startswith(allowed)
                else (self.trouble.append(f"asks for {r.request.url}"), r.abort())
            ),
        )
        self.page.goto(address)
        self.el = self.page.locator(".vx").first
        self.picture = self.el.get_by_role("img", name=f"The {noun} that the code stands for")
        self.drawn(self.picture)

    def drawn(self, canvas):
        self.page.wait_for_function("c => c.frame", arg=canvas.element_handle(), timeout=8000)

    def frame(self, canvas):
        return np.array(canvas.evaluate("c => [...c.frame]"), "float32")

    def shows(self, canvas, wanted, tolerance=2):
        "Waits until the canvas holds these bytes, to within `tolerance` grey levels."
        check = (
            "([c, wanted, t]) => c.frame && c.frame.length === wanted.length && "
            "wanted.every((v, i) => Math.abs(v - c.frame[i]) <= t)"
        )
        self.page.wait_for_function(
            check, arg=[canvas.element_handle(), np.ravel(wanted).tolist(), tolerance], timeout=5000
        )

    def code(self):
        self.el.get_by_text("Take it along").click()
        text = self.el.get_by_label("The code as NumPy text").input_value()
        self.el.get_by_text("Take it along").click()
        return eval(text, {"np": np})

    def choose(self, name, option):
        self.el.get_by_role("combobox", name=name, exact=True).select_option(option)

    def tab(self, name):
        self.el.get_by_role("tab", name=name).click()


def as_bytes(x):
    return np.clip(np.asarray(x, "float64"), 0, 1) * 255


@pytest.mark.parametrize("how", ["file", "server"])
def test_each_control_moves_the_picture(browser, page, trained, how):
    model, digits = trained
    with served(page.parent) as base:
        view = View(browser, page.as_uri() if how == "file" else f"{base}/{page.name}")
        el, changes = view.el, view.changes
        sliders = el.get_by_role("group", name="The numbers of the code").get_by_role("slider")
        assert sliders.count() == 4
        for i in range(4):
            changes(
                lambda i=i: view.drag(sliders.nth(i), (0.5, 0.5), (0.05 + 0.9 * (i % 2), 0.5)),
                name=f"slider {i}",
            )
        changes(lambda: sliders.first.press("ArrowLeft"), name="an arrow key")
        changes(lambda: el.get_by_role("spinbutton").first.fill("1.5"), name="a typed number")
        view.shows(view.picture, as_bytes(model.decode(view.code()[None])))
        changes(lambda: el.get_by_role("button", name="Random").click(), name="Random")
        changes(lambda: el.get_by_role("button", name="Reset").click(), name="Reset")
        assert view.code().tolist() == [0, 0, 0, 0]
        view.shows(view.picture, as_bytes(model.decode(np.zeros((1, 4)))))

        where = el.get_by_role("application", name="Map of the codes")
        changes(lambda: where.click(position={"x": 80, "y": 90}), name="a click on the map")
        changes(lambda: view.drag(where, (0.4, 0.4), (0.8, 0.3)), name="dragging over the map")
        changes(lambda: where.press("ArrowUp"), name="an arrow key on the map")
        across, up = (
            el.get_by_role("combobox", name=name, exact=True) for name in ("across", "up")
        )

        def shown():
            return [int(axis.input_value()) for axis in (across, up)]

        def another(axis):
            return axis.select_option(str(min(set(range(4)) - set(shown()))))

        for act in (
            (lambda: view.choose("view", "two dimensions")),
            (lambda: another(across)),
            (lambda: another(up)),
            (lambda: el.get_by_label("decoded background").check()),
            (lambda: el.get_by_role("button", name="7").click()),
        ):
            changes(act, where, "the map's view")
        before = view.code()
        view.el.get_by_label("other dimensions stay").check()
        changes(lambda: where.click(position={"x": 200, "y": 60}), name="a click on the map")
        assert np.allclose(np.delete(view.code(), shown()), np.delete(before, shown())), (
            "only what the map shows moves"
        )
        assert not np.allclose(view.code()[shown()], before[shown()]), "what the map shows moves"

        view.tab("One number at a time")
        cells = el.get_by_role("group", name="One dimension changes").get_by_role("button")
        view.drawn(cells.nth(8).locator("canvas"))
        z = view.code()
        j = int(cells.nth(8).get_attribute("aria-label")[2])
        cells.nth(8).click()
        assert np.allclose(view.code(), np.where(np.arange(4) == j, 3, z), atol=1e-4)
        el.get_by_label(f"z[{j}]", exact=True).uncheck()
        assert cells.count() == 27

        view.tab("New samples")
        first = el.get_by_role("button", name="Sample 1", exact=True).locator("canvas")
        view.drawn(first)
        changes(
            lambda: el.get_by_role("slider", name="Temperature").fill("0.3"),
            first,
            "the temperature",
        )
        changes(lambda: el.get_by_label("seed", exact=True).fill("12"), first, "the seed")
        el.get_by_label("number", exact=True).fill("5")
        view.page.wait_for_function(
            "g => g.querySelectorAll('button').length === 5",
            arg=el.get_by_role("group", name="Samples").element_handle(),
        )
        el.get_by_label("nearest embedded image").check()
        below = (
            el.get_by_role("button", name="nearest embedded image").nth(2).locator("canvas").nth(1)
        )
        view.drawn(below)
        el.get_by_role("button", name="Sample 3;").click()
        sample, near = as_bytes(model.decode(view.code()[None]))[0], view.frame(below)
        some = digits.test.x.reshape(-1, 64) * 255
        assert (
            abs(((near - sample.ravel()) ** 2).sum() - ((some - sample.ravel()) ** 2).sum(1).min())
            < 1500
        )  # the fp16 decoder may differ by a grey level or two
        assert view.trouble == []
        view.page.close()


def test_walks_from_a_to_b_are_those_of_python(browser, page, trained):
    view = View(browser, page.as_uri())
    picks = []
    for name in ("A", "B"):
        view.changes(lambda: view.el.get_by_role("button", name="Random").click(), name="Random")
        view.el.get_by_role("button", name=f"Keep as {name}").click()
        picks.append(view.code())
    view.tab("From A to B")
    for way in ("straight", "spherical"):
        view.choose("way", way)
        view.el.get_by_role("slider", name="Place between").fill("0.3")
        wanted = plot.interpolate(*picks, 11, spherical=way == "spherical")[3]
        assert np.allclose(view.code(), wanted, atol=1e-4)
        cell = view.el.get_by_role("button", name="3 tenths").locator("canvas")
        view.shows(cell, as_bytes(trained[0].decode(wanted[None])))
    here = view.el.locator("button.here")
    assert here.get_attribute("aria-label") == "3 tenths of the way"
    button = view.el.get_by_role("button", name="Random", exact=True)
    view.changes(lambda: button.click(), name="Random")
    assert here.count() == 0, "the picture is no frame of the path any more"
    view.el.get_by_role("slider", name="Place between").press("ArrowRight")
    assert here.count() == 1
    assert view.trouble == []
    view.page.close()


@pytest.mark.parametrize("width, scheme", [(1000, "light"), (360, "dark")])
def test_a_drawn_digit_is_encoded_and_reconstructed(browser, page, trained, width, scheme):
    model, _ = trained
    view = View(browser, page.as_uri(), width, scheme)
    view.tab("Your image")
    original, rebuilt = (
        view.el.get_by_role("img", name=f"The {name}") for name in ("original", "reconstruction")
    )
    view.drawn(rebuilt)
    pad = view.el.get_by_role("application", name="Drawing pad")
    view.changes(lambda: view.drag(pad, (0.45, 0.3), (0.45, 0.75)), original, "drawing")
    view.el.get_by_text("Your drawing").wait_for()
    drawn = view.frame(original).reshape(8, 8)
    assert drawn.max() > 240 and (drawn.max(1) > 60).all(), (
        "a stroke is scaled to the full height, as the digits of the data are"
    )
    ink = drawn.sum(0)
    assert abs((ink * (np.arange(8) + 0.5)).sum() / ink.sum() - 4) < 0.5, (
        "and its mass is in the middle"
    )
    x = np.rint(drawn / 255 * 16)[None, ..., None] / 16
    z = model.encode(x)[0]
    assert np.allclose(view.code(), z, atol=0.03), (
        view.code(),
        z,
    )  # fp16 weights, and a pad pixel that may round to the next level
    view.shows(rebuilt, as_bytes(model.decode(view.code()[None])))
    view.shows(view.picture, as_bytes(model.decode(view.code()[None])))

    view.el.get_by_role("button", name="Clear").click()
    pad.focus()
    view.changes(
        lambda: [pad.press("Shift+ArrowRight") for _ in range(6)],
        original,
        "drawing with the keyboard",
    )
    assert view.frame(original).reshape(8, 8).max(0).min() > 60
    view.changes(
        lambda: view.el.get_by_label("example, 0 to").fill("17"), original, "an example's number"
    )
    view.changes(lambda: view.choose("class", "4"), original, "the class")
    view.el.get_by_text("class 4").wait_for()
    view.changes(
        lambda: view.el.get_by_role("button", name="class 4").nth(3).click(),
        original,
        "an example's picture",
    )
    assert (
        view.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        and view.trouble == []
    )
    view.page.close()


def test_an_uploaded_photograph_of_ink_becomes_a_digit(browser, page, trained, tmp_path):
    from PIL import Image, ImageDraw

    paper = Image.new("L", (400, 300), 225)
    ImageDraw.Draw(paper).line([(200, 60), (200, 240)], fill=40, width=24)
    paper.save(tmp_path / "one.jpg")
    Image.fromarray((trained[1].test.x[3, ..., 0] * 255).astype("uint8")).save(
        tmp_path / "exact.png"
    )
    (tmp_path / "text.png").write_text("no image")
    view = View(browser, page.as_uri())
    view.tab("Your image")
    upload, original = (
        view.el.get_by_label("or an image file"),
        view.el.get_by_role("img", name="The original"),
    )
    view.drawn(original)
    view.changes(lambda: upload.set_input_files(tmp_path / "one.jpg"), original, "a file")
    ink = view.frame(original).reshape(8, 8)
    assert ink[:, 3:5].mean() > 100 and ink[:, [0, 1, 6, 7]].max() < 40
    upload.set_input_files(tmp_path / "exact.png")
    view.shows(original, as_bytes(trained[1].test.x[3]), 1)
    upload.set_input_files(tmp_path / "text.png")
    view.el.get_by_role("status").get_by_text("could not be read as an image").wait_for()
    view.changes(lambda: upload.set_input_files(tmp_path / "one.jpg"), original, "a good file")
    assert view.el.get_by_role("status").inner_text() == "", "the banner leaves with its cause"
    upload.set_input_files(tmp_path / "text.png")
    view.el.get_by_role("status").get_by_text("could not be read as an image").wait_for()
    view.changes(lambda: view.el.get_by_role("slider").first.press("End"), name="a slider")
    assert view.el.get_by_role("status").inner_text() == ""
    view.page.close()


def test_keyboard_alone_reaches_every_tab_and_picture(browser, page):
    view = View(browser, page.as_uri())
    view.page.keyboard.press("Tab")
    for _ in range(40):
        if (
            view.page.evaluate(
                "document.querySelector('.vaenb-explorer-view').shadowRoot.activeElement?.role"
            )
            == "tab"
        ):
            break
        view.page.keyboard.press("Tab")
    seen = []
    for _ in range(5):
        view.page.keyboard.press("ArrowRight")
        seen.append(view.el.get_by_role("tab", selected=True).inner_text())
    assert seen == ["Your image", "From A to B", "One number at a time", "New samples", "Map"]
    view.tab("One number at a time")
    cell = view.el.get_by_role("group", name="One dimension changes").get_by_role("button").first
    view.drawn(cell.locator("canvas"))
    cell.focus()
    before = view.code()
    cell.focus()
    for key in ("ArrowRight", "ArrowDown", "Enter"):
        view.page.keyboard.press(key)
    moved = view.code() - before
    assert (moved != 0).sum() == 1 and np.isclose(view.code()[moved != 0], -2.25, atol=1e-4)
    assert view.trouble == []
    view.page.close()


def test_a_link_brings_the_view_back_and_a_mangled_one_does_no_harm(browser, page):
    view = View(browser, page.as_uri())
    view.changes(lambda: view.el.get_by_role("button", name="Random").click(), name="Random")
    view.tab("New samples")
    view.el.get_by_label("seed", exact=True).fill("31")
    view.el.get_by_text("Take it along").click()
    link, code = (
        view.el.get_by_label("The state of this view").input_value(),
        view.el.get_by_label("The code as NumPy text").input_value(),
    )
    with view.page.expect_download() as picture:
        view.el.get_by_role("button", name="Save picture").click()
    assert Path(picture.value.path()).read_bytes()[:4] == b"\x89PNG"
    with view.page.expect_download() as panel:
        view.el.get_by_role("button", name="Save panel").click()
    assert panel.value.suggested_filename == "panel.png"
    view.page.close()
    again = View(browser, link)
    assert (
        again.el.get_by_role("tab", selected=True).inner_text() == "New samples"
        and again.el.get_by_label("seed", exact=True).input_value() == "31"
    )
    again.el.get_by_text("Take it along").click()
    assert again.el.get_by_label("The code as NumPy text").input_value() == code
    assert "on this computer" in again.el.inner_text(), "a link to a file works here only"
    copier = again.el.get_by_role("button", name="Copy link").element_handle()
    copier.click()
    copier.click()
    again.page.wait_for_function("b => b.textContent === 'Copied'", arg=copier)
    again.page.wait_for_function("b => b.textContent === 'Copy link'", arg=copier)
    again.page.close()
    for wrong in (
        link[:-30],
        link.replace("%22z%22%3A%5B", "%22z%22%3A%5B1%2C"),
        link.split("=")[0] + "=%7B%22z%22%3A%22x%22%2C%22plane%22%3A3%7D",
    ):
        other = View(browser, wrong)
        assert other.trouble == [] and other.code().shape == (4,)
        other.page.close()


def other_models():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    colour = Dataset(
        "colour",
        *(
            Split(rng.random((n, 16, 16, 3)).astype("float32"), rng.integers(0, 3, n))
            for n in (60, 20, 30)
        ),
        (16, 16, 3),
        levels=None,
        class_names=("a", "b", "c"),
    )
    vectors = rng.normal(size=(80, 12)).astype("float32")
    digits = data.digits()
    yield (
        "convolutional, in colour",
        VAE.for_data(colour, latent_dim=3, network=conv((4, 8)), likelihood=Normal("learned")),
        colour,
        {},
    )
    yield "vectors", VAE.for_data(vectors, latent_dim=1, network=dense((8,))), vectors, {}
    yield (
        "autoencoder",
        Autoencoder.for_data(digits, latent_dim=12, network=dense((16,))),
        digits,
        {},
    )
    yield (
        "mixture prior",
        VAE.for_data(
            digits, latent_dim=2, network=dense((16,)), prior=MixtureOfNormals(4), objective=ELBO()
        ),
        digits,
        {},
    )
    yield (
        "atlas",
        VAE.for_data(digits, latent_dim=3, network=dense((16,))),
        digits,
        {"max_bytes": 100},
    )


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "which", range(5), ids=["colour", "vectors", "autoencoder", "prior", "atlas"]
)
def test_other_models_and_data(browser, tmp_path, which):
    name, model, source, options = list(other_models())[which]
    file = tmp_path / "page.html"
    file.write_text(explore_page(model, source, name, **options))
    noun = "picture" if len(model.image_shape) == 3 else "row"
    view = View(browser, file.as_uri(), 360, noun=noun)
    view.changes(lambda: view.el.get_by_role("slider").first.press("End"), name="a slider")
    want, tolerance = model.decode(view.code()[None]), 2
    words = view.el.inner_text()
    if name == "vectors":  # one number: a strip with a histogram, neither circles nor ellipses
        assert "stand on one another" in words and "short lines" in words
        assert "circles" not in words and "ellipses" not in words
    if view.el.get_by_role("tab").count() == 3:
        assert (
            name == "atlas"
            and "table of frames" in view.el.inner_text()
            and view.el.get_by_role("slider").nth(2).is_disabled()
        )
        tolerance = 6  # between two frames
        held = view.el.get_by_role("slider", disabled=True).first
        value = held.input_value()
        for _ in range(3):
            view.changes(
                lambda: view.el.get_by_role("button", name="Random").click(), name="Random"
            )
            assert held.input_value() == value, "a slider that cannot be moved does not move"
        want = model.decode(view.code()[None])
    if len(model.image_shape) == 3:
        view.shows(view.picture, as_bytes(want), tolerance)
    else:
        view.shows(view.picture, want, 0.02)
    for tab in view.el.get_by_role("tab").all():
        tab.click()
        view.page.wait_for_function(
            "v => [...v.shadowRoot.querySelectorAll('[role=tabpanel]:not([hidden]) "
            "canvas.frame:not(.pad)')].every(c => c.frame)",
            arg=view.page.locator(".vaenb-explorer-view").element_handle(),
        )
        assert view.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
            tab.inner_text()
        )
    if which == 0:
        view.tab("Your image")
        view.shows(
            view.el.get_by_role("img", name="The original"),
            as_bytes(source.test.x[np.random.default_rng(0).permutation(30)[0]]),
            1,
        )
    assert view.trouble == [], view.trouble
    view.page.close()


def test_a_page_is_small_and_its_facts_are_json(page):
    text = page.read_text()
    assert len(text) < 300_000
    facts = json.loads(text.partition('-facts">')[2].partition("</script>")[0])
    assert facts["latent_dim"] == 4 and len(facts["labels"]) == facts["points"] == 359


def test_the_first_line_says_what_to_do_and_a_gauge_how_usual_the_code_is(browser, page, trained):
    view = View(browser, page.as_uri())
    assert view.el.get_by_text("Drag anywhere: the model draws what lies there.").is_visible()
    gauge, needle = view.el.locator(".gauge"), view.el.locator(".gauge i")
    place = lambda: float(needle.evaluate("e => parseFloat(e.style.left)"))  # noqa: E731
    far = np.linalg.norm(np.random.default_rng(0).normal(size=(20_000, 4)), axis=1)
    first = view.el.get_by_role("spinbutton").first
    for i in range(4):
        view.el.get_by_role("spinbutton").nth(i).fill("0")
    for value in (far.mean(), 2.5, 6.0):
        first.fill(f"{value:.4f}")
        wanted = min(1, abs(value - far.mean()) / (4 * far.std()))
        assert abs(place() - 100 * wanted) < 3, (value, place())
    assert "too far out" in gauge.inner_text() and "typical" in gauge.inner_text()
    assert "6.0 standard deviations" in gauge.get_attribute("aria-label")
    view.page.close()


def test_on_a_phone_the_map_comes_first_and_a_swipe_scrolls_the_page(browser, page):
    context = browser.new_context(
        viewport={"width": 390, "height": 700}, has_touch=True, is_mobile=True
    )
    tab = context.new_page()
    tab.goto(page.as_uri())
    view = tab.locator(".vx")
    where, slider = view.locator(".map"), view.get_by_role("slider").first
    tab.wait_for_function("c => c.frame", arg=view.locator("canvas").first.element_handle())
    assert where.bounding_box()["y"] < slider.bounding_box()["y"]
    session = context.new_cdp_session(tab)
    code = view.get_by_label("The code as NumPy text")

    def swipe(control, dx, dy):
        control.scroll_into_view_if_needed()
        box, before = control.bounding_box(), (tab.evaluate("scrollY"), code.input_value())
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        touch = lambda kind, *points: session.send(  # noqa: E731
            "Input.dispatchTouchEvent",
            {"type": kind, "touchPoints": [{"x": x + a, "y": y + b} for a, b in points]},
        )
        touch("touchStart", (0, 0))
        for i in range(1, 16):
            touch("touchMove", (dx * i / 15, dy * i / 15))
        touch("touchEnd")
        tab.evaluate("new Promise((done) => setTimeout(done, 300))")
        return tab.evaluate("scrollY") - before[0], code.input_value() != before[1]

    for control, way in ((where, 150), (slider, 150)):
        scrolled, moved = swipe(control, 0, way)
        assert scrolled < -80 and not moved, (control, scrolled, moved)
    tab.evaluate("scrollTo(0, 0)")
    scrolled, moved = swipe(where, 120, 0)
    assert moved and abs(scrolled) < 5, "across the map the finger moves the code"
    before = code.input_value()
    where.tap(position={"x": 40, "y": 40})
    assert code.input_value() != before, "and so does a tap"
    context.close()


@pytest.mark.parametrize("width", [390, 1100])
def test_nothing_jumps_while_the_page_loads(browser, page, tmp_path, width):
    text = page.read_text().replace("</main>", "<h2>After it</h2><p>Text.</p></main>")
    (tmp_path / "page.html").write_text(text)
    tab = browser.new_page(viewport={"width": width, "height": 800})
    tab.add_init_script("""window.shifts = []; new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) window.shifts.push(entry.value);
    }).observe({ type: "layout-shift", buffered: true });""")
    tab.goto((tmp_path / "page.html").as_uri())
    tab.wait_for_function("c => c.frame", arg=tab.locator(".vx canvas").first.element_handle())
    tab.evaluate("new Promise((r) => requestAnimationFrame(() => setTimeout(r, 300)))")
    assert sum(tab.evaluate("window.shifts")) < 0.02, tab.evaluate("window.shifts")
    tab.close()


def test_a_dark_page_is_printed_in_light_ink(browser, page):
    view = View(browser, page.as_uri(), scheme="dark")
    where = view.el.locator(".map")
    colour = "e => getComputedStyle(e).backgroundColor"
    assert view.el.evaluate(colour) == "rgb(23, 25, 28)"
    view.changes(lambda: view.page.emulate_media(media="print"), where, "printing")
    assert view.el.evaluate(colour) == "rgb(253, 252, 249)"
    assert view.page.locator("body").evaluate(colour) == "rgb(253, 252, 249)"
    view.page.close()


def test_forced_colours_show_what_is_chosen(browser, page):
    view = View(browser, page.as_uri())
    tab = view.el.locator(".tabs button[aria-selected=true]")
    outline = "e => getComputedStyle(e).outlineStyle + ' ' + getComputedStyle(e).outlineWidth"
    assert tab.evaluate(outline) != "solid 2px"
    view.page.emulate_media(forced_colors="active")
    assert tab.evaluate(outline) == "solid 2px"
    kept = "e => getComputedStyle(e).forcedColorAdjust"
    assert view.el.locator(".chip i").first.evaluate(kept) == "none"  # colours are its meaning
    view.tab("Your image")
    offered = view.el.locator("input[type=file]").get_attribute("accept")
    assert "image/png" in offered and "svg" not in offered  # an SVG is refused
    assert view.trouble == []
    view.page.close()


def test_a_dot_names_its_example_and_is_encoded_when_it_is_pressed(browser, page, trained):
    model, digits = trained
    view = View(browser, page.as_uri())
    facts = json.loads(page.read_text().partition('-facts">')[2].partition("</script>")[0])
    x = digits.test.x[np.random.default_rng(0).permutation(len(digits.test.x))]
    codes, axes = model.encode(x), np.array(facts["axes"])
    places = codes @ axes.T
    reach = 1.06 * max(np.abs(places).max(), 2.1)  # axes of length 1, and a prior of scale 1
    apart = np.linalg.norm(places[:, None] - places, axis=-1) + np.eye(len(places)) * 9
    i = apart.min(1).argmax()  # the loneliest
    where = view.el.locator(".map")
    where.scroll_into_view_if_needed()
    box = where.bounding_box()
    at = [box["x"] + box["width"] * (0.5 + places[i, 0] / (2 * reach))]
    at += [box["y"] + box["height"] * (0.5 - places[i, 1] / (2 * reach))]
    view.page.mouse.move(*at)
    hint = view.el.locator(".hint")
    hint.get_by_text(f"example {facts['index'][i]}, class {facts['labels'][i]}").wait_for()
    view.shows(hint.locator("canvas"), as_bytes(x[i]), 1)
    view.page.mouse.click(*at)
    assert np.allclose(view.code(), codes[i], atol=1e-4), "in all dimensions, not on the plane only"
    view.tab("Your image")
    assert view.el.get_by_label("example, 0 to").input_value() == str(facts["index"][i])
    view.shows(view.el.get_by_role("img", name="The original"), as_bytes(x[i]), 1)
    assert view.trouble == []
    view.page.close()


def on_map(view, x, y, reach):
    "Pixels of a point of the whole map's plane."
    where = view.el.locator(".map")
    where.scroll_into_view_if_needed()
    box = where.bounding_box()
    side = box["width"]
    return box["x"] + side * (0.5 + x / (2 * reach)), box["y"] + side * (0.5 - y / (2 * reach))


def places_of(page, trained):
    "Facts, codes and places of the examples on the map, and half its width."
    model, digits = trained
    facts = json.loads(page.read_text().partition('-facts">')[2].partition("</script>")[0])
    x = digits.test.x[np.random.default_rng(0).permutation(len(digits.test.x))]
    codes = model.encode(x)
    places = codes @ np.array(facts["axes"]).T
    return facts, x, codes, places, 1.06 * max(np.abs(places).max(), 2.1)


def test_examples_are_selected_by_a_line_and_by_a_class(browser, page, trained):
    facts, _, _, places, reach = places_of(page, trained)
    view = View(browser, page.as_uri())
    before = view.code()
    view.choose("dragging", "selects examples")
    corners = [(-0.1, 0.02), (0.4 * reach, 0.02), (0.4 * reach, 0.5 * reach), (-0.1, 0.5 * reach)]
    mouse = view.page.mouse
    mouse.move(*on_map(view, *corners[0], reach))
    mouse.down()
    for corner in corners[1:]:
        mouse.move(*on_map(view, *corner, reach), steps=8)
    mouse.up()
    inside = (places > [-0.1, 0.02]).all(1) & (places < [0.4 * reach, 0.5 * reach]).all(1)
    edge = 0.01 * reach  # the width of two pixels
    sure = (np.abs(places[:, :1] - [-0.1, 0.4 * reach]).min(1) > edge) & (
        np.abs(places[:, 1:] - [0.02, 0.5 * reach]).min(1) > edge
    )
    field = view.el.get_by_label("Indices of the selected examples")
    found = np.isin(facts["index"], json.loads(field.input_value()))
    assert inside.sum() > 5 and (found == inside)[sure].all()
    assert (view.code() == before).all(), "selecting does not move the code"
    view.el.get_by_role("button", name="3", exact=True).click()
    three = np.array(facts["index"])[np.array(facts["labels"]) == 3]
    assert json.loads(field.input_value()) == three.tolist()
    view.el.get_by_role("button", name="Select none").click()
    assert not field.is_visible()
    assert view.trouble == []
    view.page.close()


def test_the_map_is_enlarged_and_moved(browser, page, trained):
    facts, _, codes, places, reach = places_of(page, trained)
    view = View(browser, page.as_uri())
    whole = view.el.get_by_role("button", name="Whole map")
    assert whole.is_disabled()
    view.choose("dragging", "moves the map")
    at = on_map(view, 0.3 * reach, 0.2 * reach, reach)
    view.page.mouse.move(*at)
    view.page.mouse.wheel(0, -300 * float(np.log(4)))  # enlarges four times; this point stays
    view.page.wait_for_function("b => !b.disabled", arg=whole.element_handle(), timeout=5000)
    view.page.mouse.down()
    side = view.el.locator(".map").bounding_box()["width"]
    view.page.mouse.move(at[0] - side / 4, at[1], steps=4)  # a quarter of what is seen
    view.page.mouse.up()
    view.choose("dragging", "moves the code")
    view.page.mouse.click(at[0], at[1])
    # The zoom leaves reach / 4 as half the width, and the map was moved by half of that.
    a, b = np.array(facts["axes"])
    wanted = np.array([0.3 * reach + reach / 8, 0.2 * reach])
    found = np.array([view.code() @ a, view.code() @ b])
    near = places[np.abs(places - wanted).max(1) < 0.02 * reach]  # a click on a dot takes its code
    miss = np.abs(np.vstack([wanted, near]) - found).max(1)
    assert miss.min() < 0.01 * reach, (found, wanted)
    whole.click()
    assert whole.is_disabled() and view.trouble == []
    view.page.close()


def test_draws_come_from_the_posterior_of_the_chosen_example(browser, page, trained):
    model, digits = trained
    facts, x, codes, _, _ = places_of(page, trained)
    view = View(browser, page.as_uri())
    draw = view.el.get_by_role("button", name="Draw from q(z | x)")
    draws = []
    for _ in range(40):
        draw.click()
        draws.append(view.code())
    q = model.posterior_at(x[:1])
    u = (np.array(draws) - q.mu) / np.exp(0.5 * q.logvar)
    assert np.unique(u).size == u.size and abs(u.mean()) < 4 / np.sqrt(u.size), u.mean()
    assert abs(u.std() - 1) < 4 / np.sqrt(2 * u.size), u.std()
    assert view.trouble == []
    view.page.close()


def test_rows_have_names_and_values_and_series_are_lines(browser, tmp_path):
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(80, 3)) * [1, 10, 100]).astype("float32")
    names = ["height (cm)", "weight (kg)", "MAXIMUM WAVELENGTH (MM)"]
    series = np.sin(np.arange(24) / 3 + rng.uniform(0, 6, (80, 1))).astype("float32")
    both = np.stack([series, -series], axis=-1)  # a series of two channels
    for name, x, options, label in (
        ("row", rows, {"names": names}, "The row that the code stands for"),
        ("series", series, {"series": True}, "The series that the code stands for"),
        ("series", both, {"series": True}, "The series that the code stands for"),
    ):
        model = VAE.for_data(x, latent_dim=2, network=dense((8,)))
        file = tmp_path / f"{name}.html"
        file.write_text(explore_page(model, x, name, **options))
        view = View(browser, file.as_uri(), 390, noun=name)
        text = view.el.inner_text()
        assert "image" not in text and "picture" not in text.replace("Save picture", ""), text
        for tab in view.el.get_by_role("tab").all():
            tab.click()
            assert view.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert "image" not in view.el.inner_text(), tab.inner_text()
        facts = json.loads(file.read_text().partition('-facts">')[2].partition("</script>")[0])
        if name == "row":
            assert facts["columns"]["names"] == names
            assert np.allclose(facts["columns"]["high"], rows.max(0))
            edge = "c => [...c.getContext('2d').getImageData(0, 0, 2, c.height).data]"
            edge = np.reshape(view.picture.evaluate(edge), (-1, 4))
            assert len(np.unique(edge, axis=0)) == 1, "no name is cut at the edge"
        else:
            assert "each series" in view.page.locator(".lead").first.inner_text()
        assert view.el.get_by_role("img", name=label).count() == 1 and view.trouble == []
        view.page.close()


def test_sliders_and_rows_carry_the_names_of_the_factors(browser, tmp_path):
    rng = np.random.default_rng(0)
    tone = rng.integers(8, size=400)
    x = (tone[:, None] / 8 + 0.02 * rng.normal(size=(400, 16))).astype("float32")
    split = Split(x.reshape(-1, 4, 4, 1), None, tone[:, None])
    facts = dict(factor_names=("tone",), factor_sizes=(8,))
    known = Dataset("tones", split, split, split, (4, 4, 1), (-0.2, 1.2), **facts)
    model = VAE.for_data(known, latent_dim=2, network=dense((8,)), likelihood=Normal(0.1))
    model.fit(split.x, epochs=40, batch_size=32, verbose=0)
    names = explorer.view_facts(model, known)["code_names"]
    assert "tone" in names, names
    file = tmp_path / "tones.html"
    file.write_text(explore_page(model, known, "Tones"))
    for width in (390, 1000):
        view = View(browser, file.as_uri(), width)
        j = names.index("tone")
        slider = view.el.get_by_role("slider", name=re.compile(rf"^z\[{j}\] tone, "))
        assert slider.count() == 1
        assert view.el.locator(".sliders .called", has_text="tone").count() >= 1
        view.el.get_by_role("tab", name="One number at a time").click()
        assert f"z[{j}] tone" in view.el.locator(".row-label").all_inner_texts()
        assert view.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert view.trouble == []
        view.page.close()


def test_what_the_explorer_takes():
    x = np.random.default_rng(0).normal(size=(9, 4)).astype("float32")
    model = VAE.for_data(x, latent_dim=2, network=dense((8,)))
    labelled = explorer.view_facts(model, (x, list("aabbccaab")))
    assert labelled["classes"] == ["a", "b", "c"] and len(labelled["labels"]) == 9
    assert explorer.view_facts(model, x[:1])["points"] == 1
    for source, options, message in (
        ("mnist", {}, "load the data"),
        (x[:0], {}, "at least one example"),
        ((x, [1, 2]), {}, "one label for each example"),
        (x, {"names": ["a"]}, "do not fit rows of 4"),
        (x, {"code_names": ["a"]}, "1 code_names do not fit a code of 2"),
        (np.ma.masked_equal(x, x[3, 1]), {}, "NaN or infinite values, first in example 3"),
        ((x, [None, *"abcdefgh"]), {}, "label of example 0 is missing"),
        ((x, np.arange(9), np.arange(9)), {}, "differ in length or shape"),
        (x, {"image_shape": "2x2"}, "must be a tuple of numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            explorer.view_facts(model, source, **options)
    with pytest.raises(ValueError, match="not a str: load one from a file"):
        explorer.view_facts("model.keras", x)
    with pytest.raises(ValueError, match="dict from names to fitted samplers"):
        explorer.LatentExplorer(model, x, samplers=["mixture"])
    table = pytest.importorskip("pandas").DataFrame(x, columns=["size", "age", "dose", "rate"])
    assert explorer.view_facts(model, table)["columns"]["names"] == list(table.columns)


def linear(colours):
    "Linear RGB of '#rrggbb' colours, (n, 3)."
    raw = np.array([[int(c[k : k + 2], 16) / 255 for k in (1, 3, 5)] for c in colours])
    return np.where(raw <= 0.04045, raw / 12.92, ((raw + 0.055) / 1.055) ** 2.4)


def cielab(rgb):
    "CIELAB under D65 of linear RGB, (n, 3)."
    xyz = rgb @ np.array(
        [
            [0.4124564, 0.2126729, 0.0193339],
            [0.3575761, 0.7151522, 0.1191920],
            [0.1804375, 0.0721750, 0.9503041],
        ]
    )
    t = xyz / [0.95047, 1, 1.08883]
    f = np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


def ciede2000(one, two):
    "The colour difference of two CIELAB colours (Sharma, Wu and Dalal, 2005)."
    (l1, a1, b1), (l2, a2, b2) = one, two
    mean = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    g = 0.5 * (1 - np.sqrt(mean**7 / (mean**7 + 25**7)))
    a1, a2 = (1 + g) * a1, (1 + g) * a2
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + 180) % 360 - 180 if c1 * c2 else 0
    dh = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn) / 2)
    lm, cm = (l1 + l2) / 2, (c1 + c2) / 2
    hm = h1 + h2 if not c1 * c2 else (h1 + turn / 2) % 360
    cos = lambda degrees: np.cos(np.radians(degrees))  # noqa: E731
    t = 1 - 0.17 * cos(hm - 30) + 0.24 * cos(2 * hm) + 0.32 * cos(3 * hm + 6)
    t -= 0.20 * cos(4 * hm - 63)
    sl = 1 + 0.015 * (lm - 50) ** 2 / np.sqrt(20 + (lm - 50) ** 2)
    sc, sh = 1 + 0.045 * cm, 1 + 0.015 * cm * t
    rt = -2 * np.sqrt(cm**7 / (cm**7 + 25**7))
    rt *= np.sin(np.radians(60 * np.exp(-(((hm - 275) / 25) ** 2))))
    dl, dc = (l2 - l1) / sl, (c2 - c1) / sc
    return np.sqrt(dl**2 + dc**2 + (dh / sh) ** 2 + rt * dc * dh / sh)


DEFICIENCIES = {  # Machado, Oliveira and Fernandes (2009), severity 1
    "none": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def palettes():
    "Each palette of ten classes in the package, by name."
    folder = Path(explorer.__file__).parent
    for name in ("explorer", "monitor"):
        text = (folder / f"{name}.js").read_text()
        for kind in ("LIGHT", "DARK"):
            (colours,) = re.findall(rf'const {kind} = "([#0-9a-f ]+)"', text)
            yield f"{name} {kind}", colours.split()
    yield "plot", list(plot._CLASSES)


def test_ciede2000_has_the_published_values():
    for one, two, wanted in (
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ):
        assert abs(ciede2000(one, two) - wanted) < 1e-4


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_any_two_of_ten_classes_differ_for_every_eye(deficiency):
    for name, colours in palettes():
        assert len(colours) == 10
        seen = np.clip(linear(colours) @ np.array(DEFICIENCIES[deficiency]).T, 0, 1)
        lab_ = cielab(seen)
        worst = min(
            (ciede2000(lab_[i], lab_[j]), colours[i], colours[j])
            for i in range(10)
            for j in range(i)
        )
        assert worst[0] >= 10, (name, worst)
