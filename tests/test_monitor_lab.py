"""The monitor in a real JupyterLab: a training is watched, paused, steered and stopped while its
cell runs."""

import re

import lab
import pytest

CELLS = [
    """
import os; os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy as np
from vaenb import ELBO, VAE, Monitor, data
digits = data.digits()
keras.utils.set_random_seed(0)
vae = VAE.for_data(digits, latent_dim=6, network="dense", objective=ELBO(warmup=10_000))

class Notes(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.weights, self.elbo, self.betas, self.batches = [], [], [], 0
    def on_train_batch_end(self, batch, logs=None): self.batches += 1
    def on_epoch_end(self, epoch, logs=None):
        self.betas.append(float(self.model.objective.kl_weight))
        self.weights.append(self.model.get_weights())
        self.elbo.append(logs["val_elbo"])
notes = Notes()
""",
    """
callbacks = [notes, Monitor(digits.val)]
history = vae.fit(
    digits.train.x, validation_data=(digits.val.x,), epochs=5000, batch_size=128,
    callbacks=callbacks
)
""",
    """
best = int(np.argmax(notes.elbo))
same = all(np.array_equal(a, b) for a, b in zip(vae.get_weights(), notes.weights[best]))
betas = sorted({round(b, 2) for b in notes.betas})
print("epochs", len(history.history["loss"]), "best", best + 1, "restored", same, "betas", betas)
""",
]

pytestmark = pytest.mark.rotating


def epoch(panel):
    return int(re.search(r"Epoch (\d+) of 5000", panel.inner_text())[1])


def await_epoch(page, n):
    page.wait(
        "Number((/Epoch (\\d+) "
        "of/.exec(document.querySelector('.vaenb-monitor').textContent) || [0, -1])[1]) "
        f">= {n}"
    )


ROUTES = {"subshell": "perCommTarget", "queue of the main thread": "disabled"}


@pytest.mark.parametrize("route", ROUTES)
def test_a_running_training_is_watched_paused_steered_and_stopped(tmp_path, route):
    settings = {"apputils-extension/kernels-settings": {"commsOverSubshells": ROUTES[route]}}
    with lab.opened(
        CELLS, tmp_path, env={"MPLCONFIGDIR": str(tmp_path)}, settings=settings
    ) as page:
        page.run_all(wait=False)
        panel, running = page.cell(1).locator(".vaenb-monitor"), page.cell(1).get_by_text("[*]:")
        button = lambda name: panel.get_by_role("button", name=name)  # noqa: E731
        curve = (
            panel.get_by_role("img", name=re.compile("^ELBO over the epochs"))
            .locator("g path")
            .first
        )

        curve.wait_for(timeout=180_000)
        shown, length = (
            curve.get_attribute("d"),
            "([p, n]) => document.querySelector(p).getAttribute('d').length > n",
        )
        page.page.wait_for_function(length, arg=[".vaenb-monitor svg g path", len(shown) + 40])
        assert running.is_visible() and len(panel.get_by_role("img").all()) == 7, (
            "three curves, plane, units, map, images"
        )

        button("Pause").click()
        panel.get_by_text("paused").wait_for()
        still = epoch(panel)
        page.wait(
            "new Promise(done => setTimeout(() => done(true), 1000))"
        )  # a second in which nothing may happen
        assert epoch(panel) == still and running.is_visible()
        button("Resume").click()
        await_epoch(page, still + 2)

        slider = panel.get_by_role("slider")
        before = panel.locator("output").inner_text()
        box = slider.bounding_box()
        page.page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + box["height"] / 2)
        panel.get_by_text("the slider takes the place of the warm-up").wait_for()
        chosen = panel.locator("output").inner_text()
        assert float(chosen) > 3 > float(before)
        slider.press("ArrowLeft")
        page.wait(f"document.querySelector('.vaenb-monitor output').textContent !== '{chosen}'")
        await_epoch(page, epoch(panel) + 3)

        button(re.compile("^Stop")).click()
        page.await_runs()
        assert list(page.errors()) == [] and page.console == []
        said = re.search(
            r"Stopped in epoch (\d+)\. The weights are those of epoch (\d+), the best", page.text(1)
        )
        found = re.search(r"epochs (\d+) best (\d+) restored (\w+) betas (.*)", page.text(2))
        assert said and found and said.groups() == found.groups()[:2] and found[3] == "True", (
            page.text(1),
            page.text(2),
        )
        betas = [float(b) for b in found[4].strip("[]").split(",")]
        assert betas[0] < 0.1 and betas[-1] > 3, (
            "the warm-up's weights are tiny, the slider's are not"
        )
        assert page.cell(1).locator("img").count() == 1 and panel.count() == 0, (
            "a still picture has taken the panel's place"
        )
        assert any("image/png" in o.get("data", {}) for o in page.cells()[1]["outputs"])


def test_looks_follow_the_training_and_without_validation_nothing_is_the_best(tmp_path):
    alone = """
history = vae.fit(digits.train.x, epochs=5000, batch_size=128, callbacks=[Monitor(digits.val)])
"""
    with lab.opened([CELLS[0].replace('logs["val_elbo"]', "0"), alone], tmp_path) as page:
        page.run_all(wait=False)
        panel = page.cell(1).locator(".vaenb-monitor")
        caption = panel.locator("figcaption", has_text="KL per dimension")
        caption.get_by_text(re.compile("after .* epochs")).wait_for(timeout=180_000)
        first = epoch(panel)
        assert first < 40, (
            "the first look of a trained model comes within seconds, not half a minute"
        )
        looked = float(re.search(r"after ([\d.]+) epochs", caption.inner_text())[1])
        assert looked <= first
        panel.get_by_text(re.compile(r"about \d+ (s|min|h) left")).wait_for()
        corner = (
            "document.querySelector('.vaenb-monitor canvas').getContext('2d')"
            ".getImageData(0, 0, 1, 1).data[0]"
        )
        assert page.page.evaluate(corner) == 255
        page.page.evaluate("document.body.dataset.jpThemeLight = 'false'")
        page.wait(f"{corner} === 20")  # the images, too, are chalk on slate
        await_epoch(page, 5)
        assert panel.get_by_role("button").all_inner_texts() == ["Pause", "Stop"]
        assert "validation" not in panel.inner_text()
        panel.get_by_role("button", name="Stop").click()
        page.await_runs()
        assert "the last weights stay" in page.text(1)


def test_no_key_pressed_in_the_monitor_reaches_the_notebook(tmp_path):
    with lab.opened(CELLS[:2], tmp_path) as page:
        page.run_all(wait=False)
        panel = page.cell(1).locator(".vaenb-monitor")
        panel.get_by_role("img", name=re.compile("^ELBO")).wait_for(timeout=180_000)
        page.record_commands()
        button = panel.get_by_role("button", name="Pause")
        for control in (panel.get_by_role("slider"), button):
            for key in (*"00abddxm", "Control+a", "Shift+ArrowDown"):
                control.press(key)
        button.click()
        panel.get_by_text("paused").wait_for()
        for place in (panel.locator("svg").first, panel.get_by_role("progressbar"), panel):
            place.click(position={"x": 2, "y": 2})
            for key in (*"00abddxm", "Control+a"):
                page.page.keyboard.press(key)
        assert page.commands() == []
        assert page.page.locator(".jp-Dialog").count() == 0
        assert page.page.locator(".jp-CodeCell").count() == 2 and page.console == []
        page.interrupt()
        page.await_runs()


def test_an_interrupted_training_leaves_a_picture_and_a_working_kernel(tmp_path):
    with lab.opened(CELLS[:2], tmp_path) as page:
        page.run_all(wait=False)
        page.cell(1).locator(".vaenb-monitor").wait_for(timeout=180_000)
        await_epoch(page, 3)
        page.interrupt()
        page.await_runs()
        assert any("KeyboardInterrupt" in error for error in page.errors())
        page.cell(1).locator("img").wait_for()
        page.append("print(notes.batches > 0)")
        assert page.text(2) == "True\n" and page.console == []


@pytest.mark.parametrize("end", ["restart_kernel", "kill_kernel", "shut_down_kernel"])
def test_a_panel_whose_kernel_is_gone_says_so_and_takes_no_more_wishes(tmp_path, end):
    with lab.opened(CELLS[:2], tmp_path) as page:
        page.run_all(wait=False)
        panel = page.cell(1).locator(".vaenb-monitor")
        panel.get_by_role("img", name=re.compile("^Map of the codes")).wait_for(timeout=180_000)
        await_epoch(page, 3)
        assert all(button.is_enabled() for button in panel.get_by_role("button").all())

        getattr(page, end)()
        panel.get_by_role("status").get_by_text("run the cell again").wait_for(timeout=6000)
        controls = [*panel.get_by_role("button").all(), panel.get_by_role("slider")]
        assert len(controls) == 3 and all(control.is_disabled() for control in controls)
        at = epoch(panel)
        page.page.set_viewport_size({"width": 700, "height": 900})  # the panel is drawn anew
        page.page.wait_for_function("p => p.clientWidth < 600", arg=panel.element_handle())
        assert (
            all(control.is_disabled() for control in controls)
            and epoch(panel) == at
            and "ended" in panel.inner_text()
        )
        assert panel.locator(".note").inner_text().endswith("run the cell again."), (
            "drawing anew keeps the sentence"
        )
        assert page.console == []
        if end == "shut_down_kernel":
            return

        page.run_all(wait=False)  # a new kernel trains again, in a new panel
        page.wait("[...document.querySelectorAll('.vaenb-monitor button')].some(b => !b.disabled)")
        assert page.cell(1).locator(".vaenb-monitor").count() == 1
