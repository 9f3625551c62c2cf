"""The command line: what a person at a terminal gets for each command, for each mistake, and for
Ctrl-C."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from thorough import some
from typer.testing import CliRunner

import vaenb.folder
from vaenb.cli import app

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
import sitecheck  # noqa: E402

BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")
OTHER = {"tensorflow": "jax", "jax": "tensorflow", "torch": "jax"}[BACKEND]
TRAIN = (
    "train --data digits --latent-dim 2 --hidden 32 --epochs 2 --batch-size 256 --n-samples "
    "5 --seed 7 --out"
)
VAENB = [sys.executable, "-c", "from vaenb.cli import app; app(prog_name='vaenb')"]


def chromium():
    found = sitecheck.find_chromium()
    if found is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(
            "there is no Chromium on this machine"
        )
    return found


def words(command, **names):
    return [word.format(**names) for word in command.split()]


def call(command, **names):
    "Runs a command in this process; a bug surfaces as itself."
    result = CliRunner().invoke(app, words(command, **names), prog_name="vaenb")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def done(command, **names):
    result = call(command, **names)
    assert result.exit_code == 0, result.output
    return result.stdout


def environment():
    "This process's environment without the log level that JAX puts there when it is imported."
    return {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}


def process(command, **names):
    "Runs a command in a fresh process."
    return subprocess.run(
        VAENB + words(command, **names), capture_output=True, text=True, env=environment()
    )


def contents(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    done(TRAIN + " {out}", out=folder)
    return folder


def test_help_is_quick_and_loads_neither_keras_nor_matplotlib():
    code = (
        "import sys\nfrom vaenb.cli import app\ntry: app(['--help'])\nfinally: "
        "print({'keras', 'tensorflow', 'jax', 'matplotlib', 'sklearn'} & set(sys.modules))"
    )
    help = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert help.returncode == 0 and help.stdout.endswith("set()\n"), help.stdout + help.stderr
    commands = re.findall(r"^│ (\w+) ", help.stdout, re.M) or re.findall(
        r"^  (\w+) ", help.stdout, re.M
    )
    assert commands == [
        "demo",
        "book",
        "report",
        "impute",
        "models",
        "train",
        "evaluate",
        "sample",
        "reconstruct",
        "info",
        "explore",
        "diagnose",
        "compress",
        "decompress",
        "export",
        "card",
    ]
    assert (
        done("").startswith(call("--help").stdout[:20])
        and done("--version") == f"vaenb {vaenb.__version__}\n"
    )


def test_book_copies_every_chapter_and_leaves_a_folder_with_files_alone(tmp_path):
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "new" / "book", tmp_path / "empty"):
        assert done("book --out {out}", out=out).startswith(f"The chapters are in {out}")
        nbs = Path(__file__).parent.parent / "nbs"
        chapters = [path.relative_to(nbs) for path in nbs.glob("[!_]*/[!._]*.ipynb")]
        chapters += [path.relative_to(nbs) for path in nbs.glob("*.ipynb")]
        assert {p.relative_to(out) for p in out.rglob("*") if p.is_file()} == set(chapters)
        for chapter in chapters:
            assert (out / chapter).read_bytes() == (nbs / chapter).read_bytes()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for out in (tmp_path / "mine", tmp_path / "mine" / "notes.txt"):
        refused = call("book --out {out}", out=out)
        assert refused.exit_code == 2 and "name a new folder" in refused.output
    assert contents(tmp_path / "mine").keys() == {"notes.txt"}


def test_demo_in_a_fresh_process_prints_metrics_and_writes_a_page(tmp_path):
    demo = process("demo --epochs 1 --out {out}", out=tmp_path / "new" / "demo.html")
    assert demo.returncode == 0 and demo.stderr == "", demo.stdout + demo.stderr
    for quantity in (
        "ELBO",
        "log p(x)",
        "reconstruction",
        "KL",
        "active units",
        "nats per example",
        "bits per dim",
    ):
        assert demo.stdout.count(quantity) == 2, demo.stdout
    page = (tmp_path / "new" / "demo.html").read_text()
    assert {"more", "reconstructions", "metrics", "training"} <= set(
        re.findall(r'id="(\w+)"', page)
    ) and page.count('class="vaenb-explorer"') == 2
    assert (
        page.count("<img") == page.count('alt="') == 3
        and 'alt=""' not in page
        and page.count("<table") == 1
    )
    assert (
        not re.search(r"""https?://|(src|href)=["'](?!data:)|url\(|@import""", page)
        and len(page) < 2e6
    )
    assert 'name="viewport"' in page and "prefers-color-scheme: dark" in page
    assert sitecheck.check_browser(tmp_path / "new", chromium()) == [], (
        "no error, no request, not too wide, and the sliders work"
    )


@pytest.mark.rotating
def test_explore_writes_a_page_whose_slider_works(run, tmp_path):
    done("explore {run} --no-open --out {page}", run=run, page=tmp_path / "page.html")
    assert sitecheck.check_browser(tmp_path, chromium()) == []


def test_diagnose_says_what_two_epochs_leave_undone(run):
    said = done("diagnose {run}", run=run)
    assert "error" in said and "->" in said, said


def test_page_fits_a_telephone_and_asks_for_nothing(tmp_path):
    browser = pytest.importorskip("playwright.sync_api")
    from vaenb.demo import metrics_html, page_html

    report = dict(
        log_likelihood=-1234.5,
        elbo=-1234.5,
        reconstruction=-1234.5,
        kl=1234.5,
        n_samples=1000,
        dimensions=64,
        active_units=10,
        latent_dim=10,
    )
    picture = (
        '<figure><img alt="x" src="data:image/svg+xml,%3Csvg '
        "xmlns='http://www.w3.org/2000/svg' viewBox='0 0 900 "
        "300'/%3E\"><figcaption>caption</figcaption></figure>"
    )
    page = tmp_path / "page.html"
    page.write_text(
        page_html(
            "Title",
            f'<h1>Handwritten</h1><div class="row">{picture * 2}</div>'
            + metrics_html({"2 numbers": report, "8 numbers": report}),
        )
    )
    with browser.sync_playwright() as play:
        window = play.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"]
        )
        for scheme in ("light", "dark"):
            tab, asked = (
                window.new_page(viewport={"width": 360, "height": 800}, color_scheme=scheme),
                [],
            )
            tab.on("request", lambda request: asked.append(request.url))
            tab.goto(page.as_uri())
            assert tab.evaluate("document.documentElement.scrollWidth") == 360
            assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
            ink, paper = tab.evaluate(
                "[getComputedStyle(document.body).color, "
                "getComputedStyle(document.body).backgroundColor]"
            )
            assert (
                sum(map(int, re.findall(r"\d+", ink)[:3]))
                < sum(map(int, re.findall(r"\d+", paper)[:3]))
            ) == (scheme == "light")
        window.close()


def test_train_writes_a_whole_run(run):
    assert set(contents(run)) == set(vaenb.folder.FILES) - {"traversals.png"}
    assert [path for path in run.parent.iterdir()] == [run], "no draft is left"
    config, metrics, history = (
        json.loads((run / f"{name}.json").read_text()) for name in ("config", "metrics", "history")
    )
    assert (
        config["settings"]["seed"] == 7
        and config["settings"]["hidden"] == [32]
        and config["backend"] == BACKEND
    )
    assert (
        set(config["versions"]) == {"vaenb", "keras", "numpy", "python", BACKEND}
        and config["model"]["likelihood"] == "Bernoulli(binarize=True)"
    )
    assert (
        config["training"]["epochs"] == len(history["loss"]) == 2
        and config["training"]["ended"] == "all epochs done"
        and config["plan"]["chosen"] == "rule"
    )
    assert metrics["n_samples"] == 5 and metrics["n_examples"] == config["data"]["examples"]["test"]
    assert metrics["elbo"] < metrics["log_likelihood"] < 0 and np.isclose(
        metrics["elbo"], metrics["reconstruction"] - metrics["kl"]
    )
    assert all(
        os.stat(path).st_mode & 0o077 == os.stat(run).st_mode & 0o044 for path in run.iterdir()
    ), "readable by whom the folder is readable"


@pytest.mark.rotating
def test_a_fresh_process_with_the_same_seed_finds_the_same_numbers(run, tmp_path):
    again = process(TRAIN + " {out}", out=tmp_path / "again")
    assert (
        again.returncode == 0 and again.stderr.count("\n") == 1 and "Measuring" in again.stderr
    ), again.stderr
    for name in ("metrics.json", "history.json"):
        assert (tmp_path / "again" / name).read_text() == (run / name).read_text()
    other = done(TRAIN.replace("--seed 7", "--seed 8") + " {out}", out=tmp_path / "other")
    assert (
        "The run is in" in other
        and (tmp_path / "other" / "metrics.json").read_text() != (run / "metrics.json").read_text()
    )


def test_evaluate_sample_reconstruct_and_info(run, tmp_path):
    before = contents(run)
    text = done("evaluate {run} --n-samples 20 --out {out}", run=run, out=tmp_path / "more.json")
    more, metrics = (
        json.loads((tmp_path / "more.json").read_text()),
        json.loads((run / "metrics.json").read_text()),
    )
    assert (
        more["n_samples"] == 20
        and more["elbo"] == metrics["elbo"]
        and f"{more['elbo']:.2f}" in text
        and more["log_likelihood"] > metrics["log_likelihood"]
    )
    for name, count in (("samples", 6), ("reconstructions", 4)):
        command = (
            f"{'sample' if name == 'samples' else 'reconstruct'} {{run}} --n {count} --out {{out}}"
        )
        done(command, run=run, out=tmp_path / f"{name}.npy")
        done(command, run=run, out=tmp_path / f"{name}.png")
        x = np.load(tmp_path / f"{name}.npy")
        assert (
            x.shape == (count, 8, 8, 1)
            and 0 <= x.min() < x.max() <= 1
            and min(Image.open(tmp_path / f"{name}.png").size) > 30
        )
    seeds = {
        seed: done(
            "sample {run} --seed {seed} --n 2 --out {out}",
            run=run,
            seed=seed,
            out=tmp_path / f"{seed}.npy",
        )
        and np.load(tmp_path / f"{seed}.npy")
        for seed in (1, 2)
    }
    assert not np.array_equal(seeds[1], seeds[2])
    Image.fromarray(np.arange(64, dtype="uint8").reshape(8, 8) * 4).save(tmp_path / "own.png")
    done(
        "reconstruct {run} --file {file} --out {out}",
        run=run,
        file=tmp_path / "own.png",
        out=tmp_path / "own.npy",
    )
    assert np.load(tmp_path / "own.npy").shape == (1, 8, 8, 1)
    text = done("info {run}", run=run)
    assert (
        f"{metrics['log_likelihood']:.2f} nats" in text
        and "vaenb train --out RUN --data digits --hidden 32" in text
        and "--seed 7" in text
    )
    assert BACKEND in done("info") and contents(run) == before, (
        "only train writes into a run that is complete"
    )


@pytest.mark.skipif(find_spec(OTHER) is None, reason=f"{OTHER} is not installed")
@pytest.mark.rotating
def test_a_run_goes_to_a_fresh_process_on_another_backend(run, tmp_path):
    done("reconstruct {run} --out {out}", run=run, out=tmp_path / "here.npy")
    there = process(
        "reconstruct {run} --backend {other} --out {out}",
        run=run,
        other=OTHER,
        out=tmp_path / "there.npy",
    )
    assert there.returncode == 0 and there.stderr == "", there.stderr
    assert np.allclose(np.load(tmp_path / "here.npy"), np.load(tmp_path / "there.npy"), atol=1e-5)
    trained = process(TRAIN + " {out} --backend {other}", other=OTHER, out=tmp_path / "trained")
    assert (
        trained.returncode == 0
        and trained.stderr.count("\n") == 1
        and "Measuring" in trained.stderr
    ), trained.stderr  # no other library speaks up


@pytest.mark.rotating
def test_vectors_and_colour_images(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "vectors.npz", x=rng.normal(size=(60, 5)), y=rng.integers(0, 2, 60))
    text = done(
        "train --data {data} --latent-dim 1 --hidden 8 --epochs 1 --n-samples 2 --out {out}",
        data=tmp_path / "vectors.npz",
        out=tmp_path / "vectors",
    )
    assert "Normal(sigma='learned')" in text and "60" not in text.splitlines()[1]
    for i in range(30):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (9 + i % 2, 12, 3), dtype="uint8")).save(
            tmp_path / "photos" / f"{i}.png"
        )
    text = done(
        "train --data {data} --size 6 --network conv --hidden 4 --latent-dim 3 --epochs "
        "1 --n-samples 2 --out {out}",
        data=tmp_path / "photos",
        out=tmp_path / "colour",
    )
    assert (
        "6 x 6 x 3" in text
        and "DiscretizedLogistic(levels=256" in text
        and "conv(filters=(4,)" in text
    )
    assert (
        "not" not in done("info {run}", run=tmp_path / "colour")
        and (tmp_path / "colour" / "traversals.png").exists()
    )
    done("reconstruct {run} --out {out}", run=tmp_path / "vectors", out=tmp_path / "vectors.png")


def test_models_lists_every_recipe_and_describes_one():
    from vaenb.recipes import RECIPES

    lines = done("models").splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(RECIPES)
    for r, line in zip(RECIPES.values(), lines[1:]):
        assert r.about in line and r.paper in line and len(line) <= 88, line
    assert "VAE(objective=DReG(k=50))" in done("models dreg-iwae")
    assert (
        "Burda et al. 2016, https://" in done("models iwae")
        and "--set        k=50" in done("models iwae")
        and "noise=0.3" in done("models denoising-ae")
    )


# what `train` is given: what it says, and whether the model has a likelihood and tells its mutual
# information
KINDS = {
    "--model ae": ("Normal(sigma=1.0)", False, False),
    "--model denoising-ae --set noise=0.1 --likelihood bernoulli": (
        "Bernoulli(binarize=True)",
        False,
        False,
    ),
    "--model iwae --set k=3": ("IWAE(k=3)", True, True),
    "--model vamp-vae --set n_components=10": ("VampPrior(n_components=10)", True, True),
    "--model planar-vae --set n_layers=2": ("FlowPosterior(flow='planar', n_layers=2", True, False),
    "--model full-cov-vae": ("FullNormal()", True, True),
    "--model sigma-vae": ("Normal(sigma='optimal')", True, True),
    "--model beta-tcvae --beta 2.0": ("BetaTC(beta=2.0", True, True),
    "--model wae-mmd --set mmd_weight=10 --set kernel=rbf": ("WAE(mmd_weight=10", True, True),
}


@pytest.mark.parametrize("model", [*list(KINDS)[:1], *some(list(KINDS)[1:], 1, "models")])
def test_any_model_goes_all_the_way(model, tmp_path):
    says, probabilistic, informative = KINDS[model]
    out = tmp_path / "run"
    text = done(
        f"train --data digits {model} --latent-dim 3 --hidden 16 --epochs 1 --batch-size "
        f"500 --n-samples 4 --seed 3 --out {{out}}",
        out=out,
    )
    assert f"{model.split()[1]}: dense(" in text and says in text, text
    assert set(contents(out)) == set(vaenb.folder.FILES) - (
        set() if probabilistic else {"samples.png"}
    )
    metrics = json.loads((out / "metrics.json").read_text())
    assert (
        np.isfinite(metrics["reconstruction"])
        and metrics["latent_dim"] == 3
        and 0 <= metrics["active_units"] <= 3
    )
    assert ("log_likelihood" in metrics) == probabilistic and (
        metrics.get("mutual_information") is not None
    ) == informative == ("I(x; z)" in text)
    assert (
        probabilistic
        or metrics["squared_error"] > 0
        and "squared error" in text
        and "log p(x) " not in text
    )
    again = (
        json.loads((out / "metrics.json").read_text())
        if done("evaluate {out} --n-samples 4 --out {json}", out=out, json=tmp_path / "m.json")
        else None
    )
    assert json.loads((tmp_path / "m.json").read_text()) == metrics == again
    about = done("info {out}", out=out)
    assert (
        all(word in about.splitlines()[-1].split() for word in model.split())
        and "not measured" not in about
    )
    done("reconstruct {out} --n 3 --out {x}", out=out, x=tmp_path / "r.npy")
    assert np.load(tmp_path / "r.npy").shape == (3, 8, 8, 1)
    if probabilistic:
        done("sample {out} --n 5 --out {x}", out=out, x=tmp_path / "s.npy")
    else:
        refused = call("sample {out} --n 5 --out {x}", out=out, x=tmp_path / "s.npy")
        assert (
            refused.exit_code == 2
            and "--sampler mixture" in refused.stderr
            and refused.stderr.count("\n") == 1
            and not (tmp_path / "s.npy").exists()
        )
    done("sample {out} --n 5 --sampler neighbour --out {x}", out=out, x=tmp_path / "s.npy")
    assert np.load(tmp_path / "s.npy").shape == (5, 8, 8, 1)


def test_samplers_fit_the_codes_of_the_training_data(run, tmp_path):
    arrays = {}
    for name, sampler, seed in (
        ("mixture", "mixture", 1),
        ("again", "mixture", 1),
        ("other", "mixture", 2),
        ("neighbour", "neighbour", 1),
    ):
        done(
            "sample {run} --n 6 --sampler {sampler} --seed {seed} --out {x}",
            run=run,
            sampler=sampler,
            seed=seed,
            x=tmp_path / f"{name}.npy",
        )
        arrays[name] = np.load(tmp_path / f"{name}.npy")
    assert (
        np.array_equal(arrays["mixture"], arrays["again"])
        and not np.array_equal(arrays["mixture"], arrays["other"])
        and not np.array_equal(arrays["mixture"], arrays["neighbour"])
    )
    done("sample {run} --n 6 --sampler mixture --out {x}", run=run, x=tmp_path / "samples.png")
    import vaenb.sampler
    from vaenb.run import SAMPLERS, Run, fit_sampler
    from vaenb.sampler import Sampler

    assert all(issubclass(getattr(vaenb.sampler, name), Sampler) for name in SAMPLERS.values())
    opened = Run(run)
    drawn = fit_sampler(opened, "mixture", seed=1).sample(6, seed=1)
    assert np.allclose(opened.model.decode(drawn), arrays["mixture"], atol=1e-6)


def test_a_run_of_the_first_version_still_opens(run, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(run, old)
    config = json.loads((old / "config.json").read_text())
    config["settings"] = {
        **{k: v for k, v in config["settings"].items() if k not in ("model", "options")},
        "beta": 1.0,
    }
    del config["model"]["recipe"]
    (old / "config.json").write_text(json.dumps(config))
    assert "--beta 1.0" in done("info {old}", old=old) and done(
        "evaluate {old} --n-samples 5", old=old
    ) == done("evaluate {run} --n-samples 5", run=run)


def test_a_run_that_exists_is_left_alone(run, tmp_path):
    before = contents(run)
    refused = call(TRAIN + " {out}", out=run)
    assert refused.exit_code == 2 and "--overwrite" in refused.stderr and contents(run) == before
    folder = tmp_path / "run"
    done(
        "train --data digits --latent-dim 2 --hidden 16 --epochs 3 --max-minutes 1e-9 "
        "--n-samples 1 --out {out}",
        out=folder,
    )
    assert json.loads((folder / "config.json").read_text())["training"] | {"seconds": 0} == {
        "epochs": 1,
        "seconds": 0,
        "ended": "out of time",
    }
    (folder / "notes.txt").write_text("mine")
    before = contents(folder)
    refused = call(TRAIN + " {out} --overwrite", out=folder)
    assert refused.exit_code == 2 and "notes.txt" in refused.stderr and contents(folder) == before
    (folder / "notes.txt").unlink()
    done(TRAIN + " {out} --overwrite", out=folder)
    assert (folder / "metrics.json").read_text() == (run / "metrics.json").read_text() and set(
        contents(folder)
    ) == set(contents(run))


@pytest.mark.rotating
def test_ctrl_c_keeps_what_was_trained(tmp_path):
    out = tmp_path / "run"
    program = subprocess.Popen(
        VAENB
        + words(
            "train --data digits --latent-dim 2 --hidden 16 --epochs 1000000 --out {out}", out=out
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # a test run in the background would hand down "ignore"
    deadline = time.monotonic() + 120
    while (
        not list(tmp_path.glob(".draft-*/config.json"))
        and program.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.1)
    time.sleep(3)
    program.send_signal(signal.SIGINT)
    _, said = program.communicate(timeout=120)
    assert (
        program.returncode == 130
        and said.count("\n") == 1
        and "Ctrl-C" in said
        and "vaenb evaluate" in said
        and "--resume" in said
    ), said
    assert set(contents(out)) == {
        "model.keras",
        "config.json",
        "history.json",
        "checkpoint.npz",
    } and list(tmp_path.iterdir()) == [out]
    assert json.loads((out / "config.json").read_text())["training"][
        "ended"
    ] == "interrupted" and "not measured yet" in done("info {run}", run=out)
    done("evaluate {run} --n-samples 2", run=out)
    assert json.loads((out / "metrics.json").read_text())["n_samples"] == 2


@pytest.fixture(scope="module")
def things(run, tmp_path_factory):
    "A folder of things that are wrong in one way each."
    home = tmp_path_factory.mktemp("things")
    rng = np.random.default_rng(0)
    grey = rng.random((40, 8, 8, 1))
    arrays = {
        "grey": grey,
        "large": rng.random((40, 28, 28, 1)),
        "nan": np.where(grey < 0.001, np.nan, grey)
        * np.where(np.arange(40) == 3, np.nan, 1).reshape(-1, 1, 1, 1),
        "empty": grey[:0],
        "flat": grey[:, 0, 0, 0],
        "levels": rng.integers(0, 100, (40, 8, 8)),
        "negative": grey - 0.5,
        "one": grey[:1],
        "objects": np.array([["a", "b"]] * 40),
    }
    for name, array in arrays.items():
        np.save(home / f"{name}.npy", array)
    (home / "cut.npy").write_bytes((home / "grey.npy").read_bytes()[:1000])
    (home / "photos").mkdir()
    Image.new("L", (8, 8)).save(home / "photos" / "a.png")
    Image.new("L", (9, 9)).save(home / "photos" / "b.png")
    (home / "torn").mkdir()
    (home / "torn" / "a.png").write_bytes((home / "photos" / "a.png").read_bytes()[:40])
    for name in ("damaged", "foreign", "lost", "newer", "nothing"):
        (home / name).mkdir()
        for file in ("model.keras", "config.json"):
            (home / name / file).write_bytes((run / file).read_bytes())
    (home / "damaged" / "model.keras").write_bytes((run / "model.keras").read_bytes()[:3000])
    (home / "foreign" / "config.json").write_text('{"name": "a package"}')
    (home / "lost" / "model.keras").unlink()
    (home / "newer" / "config.json").write_text('{"vaenb_run": 1, "settings": {"warp": 9}}')
    (home / "nothing" / "config.json").write_text('{"vaenb_run"')
    return home


MISTAKES = {  # command: what the sentence says
    "train --data digit --out {new}": "there is no data named 'digit'",
    "train --data {things}/absent.npy --out {new}": "there is no file",
    "train --data {things}/cut.npy --out {new}": "cut.npy",
    "train --data {things}/objects.npy --out {new}": "type",
    "train --data {things}/nan.npy --out {new}": "NaN",
    "train --data {things}/empty.npy --out {new}": "empty",
    "train --data {things}/flat.npy --out {new}": "shape (40,)",
    "train --data {things}/levels.npy --out {new}": "levels",
    "train --data {things}/one.npy --out {new}": "empty",
    "train --data {things}/photos --out {new}": "size",
    "train --data {things}/torn --out {new}": "a.png",
    "train --data digits --size 9 --out {new}": "size",
    "train --data {things}/negative.npy --likelihood bernoulli --out {new}": "support",
    "train --data digits --likelihood cauchy --out {new}": "cauchy",
    "train --data digits --model vampvae --out {new}": "vamp-vae",
    "train --data digits --model iwae --set kk=3 --out {new}": "no option 'kk'",
    "train --data digits --model iwae --set k=0 --out {new}": "whole number",
    "train --data digits --model iwae --set k=few --out {new}": "'few'",
    "train --data digits --model iwae --set k --out {new}": "k=20",
    "train --data digits --model iwae --set k=3 --set k=4 --out {new}": "twice",
    "train --data digits --model beta-vae --beta 3 --set beta=4 --out {new}": "twice",
    "train --data digits --model vae --set prior=vamp --out {new}": "vaenb.recipe",
    "train --data digits --model ae --beta 4 --out {new}": "beta",
    "train --data digits --model ae --set noise=loud --out {new}": "noise is 'loud'",
    "train --data digits --model annealed-vae --set kl=sampled --out {new}": "closed form",
    "models iwea": "iwae",
    "sample {run} --sampler gibbs --out {things}/x.png": "mixture",
    "sample {run} --sampler mixture --temperature 0.5 --out {things}/x.png": "--temperature",
    "train --data digits --network transformer --out {new}": "transformer",
    "train --data {things}/negative.npy --network conv --hidden 0 --out {new}": "hidden",
    "train --data digits --hidden wide --out {new}": "--hidden",
    "train --data digits --activation swash --out {new}": "activation",
    "train --data digits --schedule linear --out {new}": "schedule",
    "train --data digits --learning-rate 0 --out {new}": "learning_rate",
    "train --data digits --learning-rate 1e30 --batch-size 2000 --epochs 1 --out {new}": (
        "not finite"
    ),
    "train --data digits --max-minutes -1 --out {new}": "max_minutes",
    "train --data digits --latent-dim 0 --out {new}": "--latent-dim",
    "train --data digits --epochs many --out {new}": "--epochs",
    "train --data digits": "--out",
    "train --out {new}": "--data",
    "train --data digits --out {things}/grey.npy": "is a file",
    "train --data digits --out {things}/photos --overwrite": "not a run",
    "train --data digits --out {things}/nothing --overwrite": "not a run",
    "train --data digits --out {things}/grey.npy/run": "grey.npy",
    "train --data digits --out /proc/nowhere/run": "/proc",
    "train --data digits --out {new} --backend abacus": "abacus",
    "train --data digits --out {new} --backend {other}": OTHER,
    "evaluate {new}": "there is no run folder",
    "evaluate {things}/photos": "not the folder of a run",
    "evaluate {things}/nothing": "damaged",
    "evaluate {things}/foreign": "not the folder of a run",
    "evaluate {things}/lost": "model.keras is missing",
    "evaluate {things}/newer": "another version",
    "evaluate {things}/damaged": "model.keras",
    "evaluate {run} --data {things}/large.npy": "(8, 8, 1)",
    "evaluate {run} --data {things}/negative.npy": "support",
    "evaluate {run} --data digit": "digit",
    "evaluate {run} --n-samples 0": "--n-samples",
    "evaluate {run} --out {things}/x.txt": ".json",
    "sample {run} --out picture.gif": ".gif",
    "sample {run} --out {things}/photos": "name a file",
    "sample {run} --out {things}/grey.npy/x.png": "grey.npy",
    "sample {run} --temperature -1": "--temperature",
    "sample {things}/damaged --out {things}/x.png": "model.keras",
    "reconstruct {run} --file {things}/absent.png --out {things}/x.png": "there is no file",
    "reconstruct {run} --file {things}/large.npy --out {things}/x.png": "(8, 8, 1)",
    "reconstruct {run} --file {things}/photos/b.png --out {things}/x.png": "(9, 9, 1)",
    "reconstruct {run} --file {things}/torn/a.png --out {things}/x.png": "a.png",
    "reconstruct {run} --file {things}/negative.npy --out {things}/x.png": "support",
    "reconstruct {run} --file {things}/levels.npy --out {things}/x.png": "levels",
    "reconstruct {run} --file a.png --data digits": "--data and --file",
    "info {things}/photos": "not the folder of a run",
    "info {things}/newer": "another version",
    "info {new}": "there is no run folder",
    "demo --out {things}/photos": ".html",
    "demo --epochs 0": "--epochs",
    "trian": "trian",
    "sample": "RUN",
    "--colour": "--colour",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_ends_with_one_sentence(command, run, things, tmp_path):
    before = contents(run)
    result = call(command, run=run, things=things, new=tmp_path / "new", other=OTHER)
    assert result.exit_code == 2, result.output
    assert (
        result.stderr.startswith("vaenb: ")
        and result.stderr.count("\n") == 1
        and "Traceback" not in result.output
    ), result.stderr
    assert MISTAKES[command] in result.stderr and 20 < len(result.stderr) < 600, result.stderr
    assert list(tmp_path.iterdir()) == [] and contents(run) == before, "nothing is left behind"


def test_mistakes_in_fresh_processes_are_as_short(things, tmp_path):
    missing = next((name for name in ("torch", "jax") if find_spec(name) is None), None)
    for command, words_of_it in (
        ("evaluate {things}/damaged", "model.keras"),
        *((("info --backend {missing}", "not installed"),) if missing else ()),
    ):
        result = process(command, things=things, missing=missing)
        assert (
            result.returncode == 2
            and result.stdout == ""
            and result.stderr.count("\n") == 1
            and words_of_it in result.stderr
        ), result.stderr


def test_a_bug_is_not_taken_for_a_mistake_of_the_user(run, monkeypatch, tmp_path):
    import vaenb.run

    def broken(*args, **kwargs):
        raise ValueError("a bug")

    monkeypatch.setattr(vaenb.run.Run, "measure", broken)
    with pytest.raises(ValueError, match="a bug"):
        call("evaluate {run}", run=run)
