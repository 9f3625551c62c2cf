"""The site: notebooks become pages, each kind of defect is caught with a sentence that names
page and defect, README follows the index."""

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest
from thorough import THOROUGH, turns

pytest.importorskip("nbdev")
ROOT = Path(__file__).resolve().parent.parent


def tool(name):
    "tools/NAME.py under another module name, because `site` is also a module of Python's own."
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


site, readme, sitecheck, sitelinks, sitepages = map(
    tool, ("site", "readme", "sitecheck", "sitelinks", "sitepages")
)
URL = "https://books.invalid/tiny"
PNG = b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\4\0\0\0\2").decode()
QUARTO = """
project: {type: website}
metadata-files: [nbdev.yml]
website:
  navbar: {left: [{text: Book, href: index.ipynb}, {text: API, href: api.qmd}], right: [{text: Code, href: "https://code.invalid"}]}
  sidebar: {contents: [index.ipynb, {section: Part, contents: [part/10_one.ipynb]}]}
"""


def markdown(source):
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def code(source, *outputs):
    return {
        "cell_type": "code",
        "metadata": {},
        "execution_count": None,
        "source": source,
        "outputs": list(outputs),
    }


def picture():
    return {
        "output_type": "display_data",
        "metadata": {},
        "data": {"image/png": PNG, "text/plain": "<Figure>"},
    }


def printed(words):
    return {"output_type": "stream", "name": "stdout", "text": words}


def error():
    return {"output_type": "error", "ename": "ValueError", "evalue": "too bad", "traceback": []}


def html_output(html):
    return {
        "output_type": "display_data",
        "metadata": {},
        "data": {"text/html": html, "text/plain": "<Thing>"},
    }


INDEX = [
    markdown("# A tiny book\n\n> Two pages"),
    markdown("## Start\n\nRead [chapter one](part/10_one.ipynb#double) first."),
    code(
        "1 + 1",
        {
            "output_type": "execute_result",
            "execution_count": None,
            "metadata": {},
            "data": {"text/plain": "2"},
        },
    ),
]
CHAPTER = [
    markdown("# One\n\n> The first chapter"),
    code("#| default_exp one"),
    code("#| export\nimport math"),
    markdown(
        "## Question\n\nHow large is $2^x$? Equation @eq-two says it, @fig-two shows it.\n\n$$ y = 2^x $$ {#eq-two}\n\nBack to [the start](../index.ipynb#start), with `double`."
    ),
    code('#| exports\ndef double(\n    x,  # any number\n):\n    "Twice * x."\n    return 2 * x'),
    code("double(3)", printed("six\n")),
    code(
        '#| label: fig-two\n#| fig-cap: "It doubles: $2^x$."\n#| fig-alt: "A rising curve."\nplot()',
        picture(),
    ),
    code("table()", html_output("<table><tr><td>raw</td></tr></table>")),
    code("#| hide\nsecret()"),
]


def write_notebook(path, cells):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [dict(cell, id=f"cell{i}") for i, cell in enumerate(cells)]
    path.write_text(
        json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    )


@pytest.fixture
def project(tmp_path):
    "A project of two notebooks and one module."
    write_notebook(tmp_path / "nbs" / "index.ipynb", INDEX)
    write_notebook(tmp_path / "nbs" / "part" / "10_one.ipynb", CHAPTER)
    (tmp_path / "nbs" / "styles.css").write_text((ROOT / "nbs" / "styles.css").read_text())
    (tmp_path / "_quarto.yml").write_text(QUARTO)
    (tmp_path / "nbs" / "_quarto.yml").symlink_to("../_quarto.yml")
    settings = (ROOT / "settings.ini").read_text()
    (tmp_path / "settings.ini").write_text(re.sub(r"= vaenb$", "= tiny", settings, flags=re.M))
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "one.py").write_text('def double(x):\n    "Twice * x."\n')
    (tmp_path / "tiny" / "_modidx.py").write_text(
        "d = {'settings': {}, 'syms': {'tiny.one': {'tiny.one.double': ('part/one.html#double', 'tiny/one.py')}}}"
    )
    return tmp_path


def make_docs(root, *args):
    return subprocess.run(
        [sys.executable, ROOT / "tools" / "site.py", "--root", root, "--no-fetch", *args],
        capture_output=True,
        text=True,
    )


def test_notebooks_become_a_clean_site(project):
    run = make_docs(project)
    assert run.returncode == 0 and "The site has no problems." in run.stdout, (
        run.stdout + run.stderr
    )
    page = (project / "_docs" / "part" / "one.html").read_text()
    assert '<h1 class="title">One</h1>' in page and "The first chapter" in page
    assert '<a href="#eq-two">Equation 1</a>' in page and '<a href="#fig-two">Figure 1</a>' in page
    assert 'alt="A rising curve."' in page and "Figure 1: It doubles" in page
    assert '<details class="code-fold"><summary>Code of the figure</summary>' in page
    assert (
        '<details class="code-fold" open><summary>Exported source</summary>' in page
        and "Twice * x." in page
    )
    assert page.count("any number") == 1, "the signature stands once, in the source"
    assert "<td>raw</td>" in page and "six" in page and "secret" not in page
    assert (
        'href="../downloads/10_one.ipynb"' in page
        and (project / "_docs" / "downloads" / "10_one.ipynb").exists()
    )
    assert '<a href="../index.html">A tiny book</a>' in page and 'href="#question"' in page
    assert '<a href="#double" class="symbol"><code>double</code></a>' in page
    assert (
        '<a href="part/one.html#double"><code>double</code></a>'
        in (project / "_docs" / "api.html").read_text()
    )
    assert "/part/one.html): The first chapter" in (project / "_docs" / "llms.txt").read_text()
    assert not (project / "nbs" / "nbdev.yml").exists(), "the working tree stays as it was"


def test_symbols_become_relative_links_and_nothing_stands_inside_a_link():
    targets = {"A": ("part/a.ipynb", "a"), "A.b": ("part/a.ipynb", "a.b"), "d": ("d.ipynb", "d")}
    linked = (
        "`A`, `A.b()`, (`d`) and `e` [`A`](x.ipynb), [the `A`](x_(1).ipynb), ![`A`](a.png){#fig-a}"
    )
    assert sitelinks.link(linked, "part/a.ipynb", targets) == (
        "[`A`](#a){.symbol}, [`A.b()`](#a.b){.symbol}, ([`d`](../d.ipynb#d){.symbol}) and `e` "
        "[`A`](x.ipynb), [the `A`](x_(1).ipynb), ![`A`](a.png){#fig-a}"
    )
    for kept in (
        "## The `A`",
        "```python\n`A`\n```",
        "$$ `A` $$",
        '<a href="x">`A`</a>',
        "``a `A` ``",
        "[`A`]{.b}",
        "[`A`][b]",
    ):
        assert sitelinks.link(kept, "index.ipynb", targets) == kept
    assert sitelinks.link("## `A`\n`A`", "d.ipynb", targets).startswith("## `A`\n[`A`](part/")


def test_only_names_that_mean_one_thing_are_linked(tmp_path):
    """A method of any class, a method of Keras, a command, and a name that two modules define:
    of these only the qualified name."""
    (tmp_path / "run.py").write_text(
        "def fit(x): pass\ndef twin(x): pass\ndef score(x): pass\nclass Run:\n    def sample(self): pass\n    def plan(self): pass"
    )
    (tmp_path / "cli.py").write_text(
        "def sample(x): pass\n@app.command()\ndef show(x): pass\ndef twin(x): pass"
    )
    names = {
        "run": ["fit", "twin", "score", "Run", "Run.sample", "Run.plan"],
        "cli": ["sample", "show", "twin"],
    }
    index = {
        "syms": {
            f"tiny.{m}": {f"tiny.{m}.{n}": (f"{m}.html#{n.lower()}", "") for n in symbols}
            for m, symbols in names.items()
        }
    }
    shown = {
        "run": ["fit", "twin", "score", "Run", "Run.sample"],
        "cli": ["sample", "show", "twin"],
    }
    pages = {f"{m}.ipynb": {"out": f"{m}.html", "shown": shown[m]} for m in names}
    found = sitelinks.symbols(index, tmp_path, pages)
    assert {name for name in found if "." not in name} == {"Run", "score"}
    assert {"run.fit", "tiny.cli.sample", "cli.show", "cli.twin", "run.twin"} <= set(found)
    assert found["Run.sample"] == ("run.ipynb", "run.sample")
    assert found["Run.plan"] == ("run.ipynb", "run"), "a method without documentation: its class"


def test_the_index_holds_the_symbols_that_nbdev_leaves_out():
    """nbdev leaves out the notebooks with "auto" in their path; for all others its index and ours
    agree."""
    text = (ROOT / "vaenb" / "_modidx.py").read_text()
    theirs = ast.literal_eval(text.partition("d = ")[2])["syms"]
    index = sitelinks.read_index(ROOT / "vaenb")["syms"]
    for module, names in theirs.items():
        ours = sitelinks.indexed(ROOT / "vaenb" / f"{module.partition('.')[2]}.py")
        assert ours == index[module] and names in ({}, ours), module
    assert [module for module, names in theirs.items() if not names] == ["vaenb.autoencoder"]
    assert index["vaenb.autoencoder"]["vaenb.autoencoder.Autoencoder"] == (
        "models/autoencoder.html#autoencoder",
        "vaenb/autoencoder.py",
    )


def test_make_docs_fails_on_a_defect_and_on_a_folder_that_nbdev_skips(project):
    write_notebook(project / "nbs" / ".drafts" / "20_two.ipynb", [markdown("# Two")])
    write_notebook(project / "nbs" / "index.ipynb", [*INDEX, markdown("[gone](part/20_two.ipynb)")])
    run = make_docs(project)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "index.html: link to part/20_two.ipynb leads nowhere." in run.stdout
    assert (
        ".drafts/20_two.ipynb: nbdev left this notebook out; it skips every file with a folder in its path that starts with a dot"
        in run.stdout
    )


@pytest.fixture
def built(tmp_path):
    "Builds the preview of one page with the given cells; returns the folder and the sentences."

    def build(*cells):
        proc, out, quarto_yml = tmp_path / "proc", tmp_path / "docs", tmp_path / "_quarto.yml"
        quarto_yml.write_text(QUARTO)
        write_notebook(
            proc / "index.ipynb",
            [
                {
                    "cell_type": "raw",
                    "metadata": {},
                    "source": "---\ntitle: Tiny\noutput-file: index.html\n---",
                },
                *cells,
            ],
        )
        (proc / "styles.css").write_text("body { color: black }")
        pages = site.prepare(proc, tmp_path / "nbs", {"syms": {}}, tmp_path)
        book = site.Book(
            tmp_path / "nbs",
            quarto_yml,
            site.load(proc, pages),
            "tiny",
            "A tiny book.",
            URL,
            unclear={"fit"},
        )
        return out, site.preview(book, proc, out)

    return build


def test_a_clean_page_has_no_findings(built):
    clean = [
        markdown(
            "## Fine\n\n[above](#fine), [paper](https://arxiv.org/abs/1312.6114), `$HOME`, $5, $x^2$ and `@fig-none`.\n\n::: {.note}\nA note.\n:::"
        ),
        code("print('::: {.a} \\\\alpha')", printed("::: $x \\alpha ?@\n")),
        *CHAPTER[6:8],
    ]
    assert built(*clean)[1] == []


DEFECTS = {
    "broken link": (markdown("[gone](part/gone.ipynb)"), "link to part/gone.ipynb leads nowhere"),
    "dead anchor": (
        markdown("[gone](index.ipynb#gone)"),
        "link to index.html#gone: no such anchor",
    ),
    "dead anchor of the published site": (
        markdown("[f](https://books.invalid/tiny/index.html#f)"),
        "link to index.html#f: no such anchor",
    ),
    "absolute link to the own site": (
        markdown("[f](https://books.invalid/tiny/index.html)"),
        "names this site's own address",
    ),
    "link in a link": (
        markdown("[[`VAE`](https://other.invalid/x)](https://other.invalid/y)"),
        "raw Markdown is in sight",
    ),
    "link that is not closed": (
        markdown("see [the `VAE`](index.ipynb"),
        "raw Markdown is in sight: ](index.ipynb",
    ),
    "method name that leads to a command": (
        markdown("After [`fit`](#fit){.symbol} it can.\n\n## Fit"),
        "the word fit leads to a symbol, and is also the name of a method or command",
    ),
    "unknown cross-reference": (
        markdown("As @fig-gone shows."),
        "unknown cross-reference @fig-gone",
    ),
    "unbalanced TeX": (markdown(r"Here $\frac{a}{b$."), r"formula cannot be rendered: $\frac{a}{b"),
    "unknown TeX": (
        markdown(r"$$ \nonsense{x} $$"),
        r"formula cannot be rendered: $$ \nonsense{x}",
    ),
    "unbalanced dollars": (
        markdown(r"The code $z of \alpha."),
        "TeX outside of a formula, or unbalanced dollars",
    ),
    "saved error": (code("f()", error()), "a saved error is shown"),
    "printed traceback": (
        code("f()", printed("Traceback (most recent call last)\n")),
        "a saved error is shown",
    ),
    "picture of another host": (
        markdown("![A cat](https://cats.invalid/cat.png)"),
        "asks another host for https://cats.invalid/cat.png",
    ),
    "script of another host": (
        code("f()", html_output('<script src="//cdn.invalid/x.js"></script>')),
        "asks another host for //cdn.invalid/x.js",
    ),
    "fetch from another host": (
        code("f()", html_output('<script>fetch("https://cdn.invalid/x.json")</script>')),
        "asks another host for https://cdn.invalid",
    ),
    "style of another host": (
        markdown('<style>@import "https://fonts.invalid/a.css";</style>'),
        "asks another host for https://fonts.invalid/a.css",
    ),
    "div that is not closed": (markdown("::: {.note}\nunfinished"), "malformed div"),
    "div in the middle of a line": (markdown("words ::: {.note} words"), "malformed div"),
    "figure without alt text": (
        code("plot()", picture()),
        "image index_files/figure-1.png has no alternative text",
    ),
    "image without alt text": (
        markdown("text ![](cat.png) text"),
        "image cat.png has no alternative text",
    ),
    "image that does not exist": (
        markdown("![A cat](cat.png)"),
        "loads cat.png, which does not exist",
    ),
    "page weight": (markdown("x" * 3_000_001), "weighs 3.0 MB; the limit is 3 MB"),
    "one id twice": (
        markdown('<b id="twice"></b><b id="twice"></b>'),
        "the id twice stands there 2 times",
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_defects_of_a_page_are_caught(built, name):
    cell, sentence = DEFECTS[name]
    found = built(cell)[1]
    assert any(f.startswith("index.html: ") and sentence in f for f in found), found


def test_a_page_is_read_as_quarto_reads_it(built, monkeypatch):
    """Quarto splits a source that is a string without keeping its newlines. Once `prepare`
    writes one, the page is mangled, and found."""
    cells = [
        markdown("## Fine\n\nA paragraph of its own.\n\n- one\n- two"),
        code("#| exports\ndef double(x):\n    return 2 * x", printed("1\n2\n")),
    ]
    out, found = built(*cells)
    page = (out / "index.html").read_text()
    assert found == [] and "<h2>Fine</h2>" in page and page.count("<li>") > 1
    cells = [c for c in json.loads((out.parent / "proc" / "index.ipynb").read_text())["cells"]]
    for cell in cells:
        texts = [cell["source"], *(o[k] for o in cell.get("outputs", []) for k in ["text"])]
        assert all(isinstance(lines, list) for lines in texts)
        assert all(line.endswith("\n") for lines in texts for line in lines[:-1])
    monkeypatch.setattr(site, "keep_lines", lambda words: site.text(words))
    for cell, sentence in [
        (markdown("```{=html}\n<p>x</p>\n```\n\nwords"), "raw Markdown is in sight"),
        (markdown("## Fine\n\n" + "A long paragraph. " * 9), "a heading swallows its paragraph"),
        (markdown("words\n\n## Two"), "raw Markdown is in sight"),
    ]:
        assert any(sentence in f for f in built(cell)[1]), built(cell)[1]


def test_the_share_of_exported_code_on_the_pages_is_measured(project, monkeypatch):
    pages = {"part/10_one.ipynb": {"out": "part/one.html"}}
    assert make_docs(project).returncode == 0
    measure = lambda: sitecheck.visible(  # noqa: E731
        project / "nbs", project / "_quarto.yml", project / "_docs", pages
    )
    assert measure() == {"Part": (5, 6)}, "all but the hidden import"
    monkeypatch.setitem(sitecheck.VISIBLE, "Part", 0.9)
    found = sitecheck.check_visible(measure())
    assert found == ["Part: 83% of the exported lines are on its pages; at least 90% must be."]
    page = project / "_docs" / "part" / "one.html"
    page.write_text(page.read_text().replace("\n", " "))  # as Quarto mangles it
    assert measure()["Part"][0] == 0
    monkeypatch.setitem(sitecheck.VISIBLE, "Part", 0.8)
    assert sitecheck.check_visible({"Part": (5, 6)}) == []


def test_long_code_and_code_that_only_draws_is_folded():
    def folded(cell):
        cell = dict(cell, source=site.keep_lines(cell["source"]))
        site.fold(cell)
        return sitepages.options(cell["source"])[0].get("code-summary")

    nbdev = '#| code-fold: show\n#| code-summary: "Exported source"\n'
    lines = "\n".join(f"x{i} = {i}" for i in range(50))
    assert folded(code(lines)) == "Code, 50 lines"
    assert folded(code(nbdev + lines)) == "Exported source, 50 lines"
    assert folded(code(nbdev + "x = 1")) == "Exported source"
    assert folded(code("plot(x)", picture())) == "Code of the figure"
    for source in (
        "#| echo: false\nplot(x)",
        "model.fit(x)\nplot(x)",
        "assert plot(x)",
        "def f(): pass",
    ):
        assert folded(code(source, picture())) is None
    assert folded(code("plot(x)", picture(), printed("2\n"))) is None
    assert folded(code("print(x)", printed("2\n"))) is None


def test_what_show_doc_writes_is_mended():
    words = '---\n\n[source](https://code.invalid/x.py#L2){target="_blank" style="float:right; font-size:smaller"}\n\n### f\n\n'
    signature, doc = (
        "```python\ndef f(x):\n```\n\n",
        "*2 * x, (n,).*\n\n- x: a number `a*b`, or *none*",
    )
    out = {
        "output_type": "display_data",
        "metadata": {},
        "data": {"text/markdown": words + signature + doc},
    }
    # noqa: E731
    source = lambda fold: {"source": [f"#| code-fold: {fold}\n", "def f(x):\n", "    return 2 * x"]}  # noqa: E731
    head = '### f {.symbol}\n\n[source](https://code.invalid/x.py#L2){.symbol-source target="_blank"}\n\n'
    mended = "2 \\* x, (n,).\n\n- x: a number `a*b`, or \\*none\\*"
    for following, kept in ((None, signature), (source("true"), signature), (source("show"), "")):
        cell = code("show_doc(f)", json.loads(json.dumps(out)))
        site.mend_show_doc(cell, following)
        assert cell["outputs"][0]["data"]["text/markdown"] == head + kept + mended


SOURCE_DEFECTS = {
    "missing navigation target": (
        "_quarto.yml",
        "part/10_one.ipynb",
        "part/11_gone.ipynb",
        "_quarto.yml: the navigation names part/11_gone.ipynb, which does not exist.",
    ),
    "chapter that nobody can find": (
        "_quarto.yml",
        ", {section: Part, contents: [part/10_one.ipynb]}",
        "",
        "part/10_one.ipynb: is not in the sidebar of _quarto.yml.",
    ),
    "prose dropped from a title cell": (
        "nbs/index.ipynb",
        r"> Two pages",
        r"> Two pages\n\nThis is lost.",
        "index.ipynb: prose in the title cell is dropped from the site: This is lost.",
    ),
    "second line of a summary": (
        "nbs/index.ipynb",
        r"> Two pages",
        r"> Two pages\n> and more",
        "index.ipynb: prose in the title cell is dropped from the site: > and more.",
    ),
    "no title": (
        "nbs/index.ipynb",
        r"# A tiny book",
        r"A tiny book",
        "index.ipynb: has no title cell (`# Title`).",
    ),
    "list that pandoc does not see": (
        "nbs/index.ipynb",
        "Read [",
        r"As follows:\n- Read [",
        "index.ipynb: needs an empty line before: - Read [chapter one]",
    ),
}


@pytest.mark.parametrize("name", SOURCE_DEFECTS)
def test_defects_of_the_sources_are_caught(project, name):
    path, before, after, sentence = SOURCE_DEFECTS[name]
    check = lambda: list(site.check_sources(project / "nbs", project / "_quarto.yml"))  # noqa: E731
    assert check() == []
    source = (project / path).read_text()
    assert before in source
    (project / path).write_text(source.replace(before, after))
    assert any(found.startswith(sentence) for found in check()), check()


def test_saved_errors_are_caught_in_hidden_cells_too(project):
    write_notebook(project / "nbs" / "index.ipynb", [*INDEX, code("#| hide\nf()", error())])
    assert "index.ipynb: the saved output holds an error: ValueError: too bad." in list(
        site.check_sources(project / "nbs", project / "_quarto.yml")
    )


def test_katex_names_the_formula_that_it_cannot_render(built, monkeypatch):
    packages = ROOT / "build" / "npm" / "node_modules"
    if not (packages / "katex").exists():
        pytest.skip("KaTeX is not in build/npm; `make docs` puts it there")
    out, _ = built(markdown("## Fine\n\n$a$ and $b$"))
    page = out / "index.html"
    page.write_text(
        re.sub(r"<math.*?</math>", "", page.read_text(), flags=re.S).replace(
            "<h2",
            r'<span class="math inline">x^2</span> <span class="math inline">\nonsense</span> <h2',
            1,
        )
    )
    site.typeset(out, packages / "katex" / "dist")
    assert 'class="katex"' in page.read_text() and (out / "katex" / "katex.min.css").exists()
    assert [f for f in sitecheck.check_site(out) if "formula" in f] and all(
        r"\nonsense" in f for f in sitecheck.check_site(out)
    ), sitecheck.check_site(out)


@pytest.fixture
def chromium():
    "The path of a Chromium; without one the test is skipped, or fails under CI=true."
    if (found := sitecheck.find_chromium()) is None:
        assert os.environ.get("CI") != "true", "no Chromium was found, and CI must open the pages"
        pytest.skip("no Chromium was found")
    return found


def test_browser_reports_errors_requests_and_width(built, chromium):
    out, _ = built(markdown("## Fine"))
    (out / "bad.html").write_text(
        "<!DOCTYPE html><title>bad</title><p style='width: 900px; color: #eee; background: #fff'>wide</p>"
        "<script>new Image().src = 'https://cats' + '.invalid/x.png'; console.error('ouch'); nothing.here()</script>"
    )
    axe = (
        ROOT / "build" / "npm" / "node_modules" / "axe-core" / "axe.min.js"
    )  # there once `make docs` has run
    found = sitecheck.check_browser(out, chromium, axe=axe if axe.exists() else None)
    assert not axe.exists() or any(
        "accessibility (light): Elements must meet minimum color contrast" in f for f in found
    ), found
    assert all(f.startswith("bad.html: ") for f in found), found
    for words in (
        "the console says: ouch",
        "a script fails: nothing is not defined",
        "asks for https://cats.invalid/x.png",
        "too wide for a phone",
    ):
        assert any(words in f for f in found), found


WIDE = "word " * 60
CUT_OFF = {
    "a code block or output": f"<div style='overflow: hidden'><pre style='overflow: auto'>{WIDE}</pre></div>",
    "a formula": f"<math display='block' style='overflow-x: auto'><mi>{'x' * 99}</mi></math>",
    "a table": f"<table style='display: block; overflow-x: auto'><tr><td style='white-space: nowrap'>{WIDE}</td></tr></table>",
    "a picture": "<div style='overflow-x: auto'><img alt='x' src='data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7' style='width: 900px; max-width: none'></div>",
}


def test_browser_finds_what_is_cut_off(tmp_path, chromium):
    """Each kind in a box that cuts or scrolls it, so that the page itself is not too wide;
    folded code is measured too; wrapped code fits."""
    page = "<!DOCTYPE html><html lang='en'><title>x</title><body><main><h1>x</h1>{}</main>"
    fine = f"<pre style='white-space: pre-wrap'>{WIDE}</pre><table><tr><td>{WIDE}</td></tr></table>"
    (tmp_path / "fine.html").write_text(page.format(fine))
    for i, defect in enumerate(CUT_OFF.values()):
        (tmp_path / f"{i}.html").write_text(page.format(f"<details>{defect}</details>"))
    found = sitecheck.check_browser(tmp_path, chromium)
    for i, (kind, at) in enumerate(zip(CUT_OFF, (1400, 390, 390, 390))):
        mine = [f for f in found if f.startswith(f"{i}.html")]
        assert len(mine) == 1 and re.search(rf"{kind} is \d+ pixels too wide at {at}", mine[0]), (
            found
        )
    assert not any(f.startswith("fine") for f in found), found


EXPLORER = """<!DOCTYPE html><html lang="en"><title>x</title><body><main><h1>x</h1><div class="vaenb-explorer"></div></main><script>
const view = document.querySelector('.vaenb-explorer').appendChild(document.createElement('div'));
view.className = 'vaenb-explorer-view';
view.attachShadow({mode: 'open'}).innerHTML = '<canvas width="9" height="9" role="img" aria-label="picture"></canvas><input type="range" min="-3" max="3" aria-label="z">';
const [canvas, slider] = view.shadowRoot.children;
slider.oninput = () => canvas.getContext('2d').fillRect(0, 0, 3 + Number(slider.value), 9);
</script></body></html>"""


def test_browser_moves_the_first_slider_of_every_explorer(tmp_path, chromium):
    for name, before, after in [
        ("fine", "", ""),
        ("stuck", "3 + Number(slider.value)", "0"),
        ("dead", "const view", "nothing.here(); const view"),
    ]:
        (tmp_path / f"{name}.html").write_text(EXPLORER.replace(before, after))
    assert sitecheck.check_browser(tmp_path, chromium) == [
        "dead.html: a script fails: nothing is not defined.",
        "dead.html: an explorer does not start.",
        "stuck.html: moving the first slider of an explorer does not change its picture.",
    ]


def test_the_book_has_no_defects_from_files_and_from_a_server(tmp_path, chromium):
    """The real chapters, opened from file:// and from a server on this machine, both without a
    network. In `make test`: those that have their turn, from file:// the changed ones too."""
    root = tmp_path / "book"
    shutil.copytree(
        ROOT / "nbs", root / "nbs", symlinks=True, ignore=shutil.ignore_patterns("_*", ".*")
    )
    for name in ("_quarto.yml", "settings.ini"):
        shutil.copy(ROOT / name, root)
    (root / "nbs" / "_quarto.yml").symlink_to("../_quarto.yml")
    shutil.copytree(ROOT / "vaenb", root / "vaenb", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "translations", root / "translations")
    run = make_docs(root, "--no-browser")
    assert run.returncode == 0, run.stdout + run.stderr
    pages = sitecheck.html(root / "_docs")
    todays = [page for i, page in enumerate(pages) if THOROUGH or turns.has_turn(i)]
    with sitecheck.served(root / "_docs") as base:
        assert sitecheck.check_browser(root / "_docs", chromium, base, pages=todays) == []
    changed = [path for path in (ROOT / "nbs").rglob("*.ipynb") if turns.is_changed(path)]
    named = {
        re.sub(r"(^|/)\d+_", r"\1", path.relative_to(ROOT / "nbs").with_suffix(".html").as_posix())
        for path in changed
    }
    opened = [page for page in pages if page in {*todays, *named}]
    assert sitecheck.check_browser(root / "_docs", chromium, pages=opened) == []


def test_readme_follows_the_index(tmp_path):
    cells = [
        markdown("# Tiny\n\n> In short"),
        code("#| hide\nsecret()"),
        code("#| echo: false\nprint(1)", printed("one\n")),
        markdown(
            "[one](part/10_one.ipynb#x), [paper](https://arxiv.org), [below](#x)\n\n![A cat](images/cat.png)\n\n```\n[as](it-is)\n```"
        ),
        code("#| fig-cap: c\nplot()", printed("two\n"), picture()),
    ]
    write_notebook(tmp_path / "nbs" / "index.ipynb", cells)
    shutil.copy(ROOT / "settings.ini", tmp_path)
    with pytest.raises(SystemExit, match="README.md, index-1.png does not match nbs/index.ipynb"):
        readme.main(["--check"], tmp_path)
    readme.main([], tmp_path)
    readme.main(["--check"], tmp_path)
    rendered = (tmp_path / "README.md").read_text()
    assert rendered == f"{readme.NOTICE}\n\n{readme.badges(tmp_path)}" + (
        "\n\n# Tiny\n\n> In short\n\n```text\none\n```\n\n[one](nbs/part/10_one.ipynb#x), [paper](https://arxiv.org), [below](#x)"
        "\n\n![A cat](nbs/images/cat.png)\n\n```\n[as](it-is)\n```\n\n```python\nplot()\n```\n\n![](nbs/images/index-1.png)\n\n```text\ntwo\n```\n"
    )
    assert (tmp_path / "nbs" / "images" / "index-1.png").read_bytes().startswith(b"\x89PNG")


def test_the_badges_lead_to_a_notebook_of_this_repository_that_installs_the_book():
    """Colab runs the notebook in an environment of its own, Binder in one that .binder describes."""
    settings = site.ConfigParser(delimiters=["="])
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    cfg = settings["DEFAULT"]
    repository, branch = cfg["git_url"].removeprefix("https://github.com/"), cfg["branch"]
    pages = re.findall(r"\]\((https://[^)]+)\)(?: |$)", readme.badges(ROOT))
    colab, binder = (page.rpartition("/nbs/")[0] for page in pages)
    assert colab == f"https://colab.research.google.com/github/{repository}/blob/{branch}"
    assert binder == f"https://mybinder.org/v2/gh/{repository}/{branch}?urlpath=lab/tree"
    for page in pages:
        cells = json.loads((ROOT / "nbs" / page.rpartition("/nbs/")[2]).read_text())["cells"]
        first = next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        assert f"%pip install -q {cfg['lib_name']}\n" in first and "#| eval: false" in first
    wanted = (ROOT / ".binder" / "requirements.txt").read_text().splitlines()
    assert wanted[1:] == ["-c ../constraints.txt", "-e .[jax,compression,table]"]


def test_navigation_agrees_with_the_settings():
    settings = site.ConfigParser(delimiters=["="])
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    assert settings["DEFAULT"]["git_url"] in list(
        sitecheck.hrefs(sitecheck.navigation(ROOT / "_quarto.yml")[1])
    )
    assert os.readlink(ROOT / "nbs" / "_quarto.yml") == "../_quarto.yml"


def test_quarto_builds_the_official_site_where_it_is_installed(project, monkeypatch):
    """A stand-in for Quarto: it writes what Quarto writes for a formula (KaTeX from another
    host) and a broken link."""
    page = (
        '<!DOCTYPE html><html lang="en"><head><title>t</title><script src="https://cdn.invalid/katex.min.js"></script></head>'
        '<body><main><span class="math inline">x</span><a href="gone.html">gone</a></main></body></html>'
    )
    quarto = project / "bin" / "quarto"
    quarto.parent.mkdir()
    quarto.write_text(
        f"#!/bin/sh\nmkdir -p _docs && test -f _quarto.yml && test -f nbdev.yml && test -f api.qmd && echo '{page}' > _docs/index.html\n"
    )
    quarto.chmod(0o755)
    monkeypatch.setenv("PATH", f"{quarto.parent}{os.pathsep}{os.environ['PATH']}")
    run = make_docs(project)
    assert run.returncode == 1
    for sentence in (
        "link to gone.html leads nowhere.",
        "asks another host for https://cdn.invalid/katex.min.js.",
        "formula cannot be rendered: x.",
    ):
        assert f"  _site/index.html: {sentence}" in run.stdout, run.stdout + run.stderr
    assert (project / "_site" / "llms.txt").exists() and (project / "_docs" / "index.html").exists()
