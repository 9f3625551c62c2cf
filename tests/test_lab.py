"""The instrument itself: `tests/lab.py` drives a JupyterLab whose widgets answer, and sees what
goes wrong there."""

import lab
import pytest

WIDGETS = [
    """
import ipywidgets, anywidget, traitlets, os
slider = ipywidgets.IntSlider(value=3, max=10, description="size")
slider
""",
    """
class Counter(anywidget.AnyWidget):
    _esm = '''export default { render({ model, el }) {
        const button = document.createElement("button");
        button.textContent = "more";
        button.onclick = () => {
            model.set("count", model.get("count") + 1); model.save_changes();
        };
        const seen = document.createElement("output");
        const show = () => { seen.textContent = "count " + model.get("count"); };
        model.on("change:count", show); show(); el.append(button, seen);
    } };'''
    count = traitlets.Int(0).tag(sync=True)
counter = Counter()
counter
""",
    "print('pid', os.getpid())",
]


@pytest.mark.rotating
def test_a_widget_of_each_kind_answers_and_a_kernel_that_dies_is_seen(tmp_path):
    with lab.opened(WIDGETS, tmp_path) as page:
        page.run_all()
        assert list(page.errors()) == [] and page.text(2) == f"pid {page.kernel_process().pid}\n"
        page.cell(0).get_by_role("slider").press("ArrowRight")
        page.cell(1).get_by_role("button", name="more").click()
        page.cell(1).get_by_text("count 1").wait_for()
        page.append("slider.value, counter.count")
        assert page.text(3) == "(4, 1)"
        assert page.console == []

        page.append("1 / 0")
        assert list(page.errors()) == ["ZeroDivisionError: division by zero in '1 / 0'"]
        page.page.evaluate("console.error('ouch')")
        page.page.evaluate("fetch('https://cats.invalid/x').catch(() => 0)")
        assert page.console == [
            "ouch",
            "asks another host for https://cats.invalid/x",
            "Failed to load resource: net::ERR_FAILED",
        ]

        before = page.kernel_process().pid
        page.append("while True: pass", wait=False)
        page.wait(f"{lab.KERNEL}.status === 'busy'")
        page.interrupt()
        page.await_runs()
        assert "KeyboardInterrupt" in "".join(page.errors()) and page.kernel_process().pid == before
        page.restart_kernel()
        assert (restarted := page.kernel_process().pid) != before
        page.kill_kernel()
        assert page.kernel_process().pid != restarted
        page.shut_down_kernel()
        assert len(page.console) == 3, page.console
