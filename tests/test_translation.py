"""The Chinese edition: what no longer fits its English is reported with page and cell, and is
never shown; the rest becomes a page of its own."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("nbdev")
sys.path.insert(0, str(Path(__file__).resolve().parent))
from test_site import (  # noqa: E402
    QUARTO,
    ROOT,
    code,
    markdown,
    picture,
    site,
    tool,
    write_notebook,
)

translation, readme, check = map(tool, ("translation", "readme", "check"))
INDEX = [
    markdown("# A tiny book\n\n> Two pages"),
    markdown("## Start\n\nThe rate is $2^x$, see [one](part/10_one.ipynb#two-steps)."),
    code('#| fig-cap: "It doubles."\n#| fig-alt: "A curve."\nx = 2\nplot()', picture()),
    code('#| hide\n#| fig-cap: "Never seen."\nplot()', picture()),
    markdown("Read it in `double` as well."),
]
ONE = [markdown("# One\n\n> The first"), markdown("## Two steps\n\nBack to [it](../index.ipynb).")]
OTHER = [markdown("# Other\n\n> Not translated"), markdown("## More\n\nWords.")]
TITLES = {"index": "A tiny book", "part/10_one": "One", "part/11_other": "Other"}
CHINESE = {
    "index.ipynb": {
        ("cell0", ""): "# 一本小书\n\n> 两页",
        ("cell1", ""): "## 开始\n\n码率是 $2^x$，见[一](part/10_one.ipynb#two-steps)。",
        ("cell2", "fig-cap"): "它加倍。",
        ("cell2", "fig-alt"): "一条曲线。",
        ("cell4", ""): "也请在 `double` 中阅读。",
    },
    "part/10_one.ipynb": {
        ("cell0", ""): "# 一\n\n> 第一章",
        ("cell1", ""): "## 两步\n\n回到[那里](../index.ipynb)。",
    },
}
WORDS = {"Book": "全书", "API": "API", "Code": "代码", "Part": "部分", "Figure": "图"}
WORDS |= {"Download this notebook": "下载", "On this page": "本页", "Code of the figure": "绘图"}


@pytest.fixture
def project(tmp_path):
    "Three notebooks, two of them translated."
    nbs = tmp_path / "nbs"
    for name, cells in (("index", INDEX), ("part/10_one", ONE), ("part/11_other", OTHER)):
        write_notebook(nbs / f"{name}.ipynb", cells)
    navigation = QUARTO.replace("[part/10_one.ipynb]", "[part/10_one.ipynb, part/11_other.ipynb]")
    (tmp_path / "_quarto.yml").write_text(navigation)
    for name, words in CHINESE.items():
        path = (tmp_path / "translations" / "zh" / name).with_suffix(".md")
        english = translation.pieces(nbs / name)
        entries = {key: (translation.digest(english[key]), words[key]) for key in words}
        translation.write(path, entries)
    (tmp_path / "translations" / "zh" / "words.yml").write_text(
        yaml.safe_dump(WORDS, allow_unicode=True)
    )
    shutil.copy(ROOT / "settings.ini", tmp_path)
    return tmp_path


def change(root, name, cell, before, after):
    path = root / "nbs" / name
    notebook = json.loads(path.read_text())
    source = next(c for c in notebook["cells"] if c["id"] == cell)["source"]
    assert before in source
    write_notebook(
        path, [{**c, "source": c["source"].replace(before, after)} for c in notebook["cells"]]
    )


def test_every_cell_of_a_translated_page_is_translated_and_none_is_stale():
    assert translation.review(ROOT) == []
    assert {
        "index.ipynb",
        "notation.ipynb",
        "models/20_autoencoder.ipynb",
        "models/22_vae.ipynb",
    } | {
        "stories/80_printed_code.ipynb",
        "stories/82_first_vae.ipynb",
    } <= set(translation.catalogue(ROOT))


def lose(root):
    path = root / "translations" / "zh" / "index.md"
    path.write_text(re.sub(r"<!-- cell cell4.*", "", path.read_text(), flags=re.S))


def garble(before, after):
    def seed(root):
        path = root / "translations" / "zh" / "index.md"
        assert before in path.read_text()
        path.write_text(path.read_text().replace(before, after))

    return seed


CHANGED = " has changed since it was translated."
DIFFER = " differ from those of the English text."
SEEDED = {
    "stale": (
        lambda root: change(root, "index.ipynb", "cell1", "The rate is", "The cost is"),
        "index.md: cell cell1 is stale: its English text" + CHANGED,
    ),
    "stale caption": (
        lambda root: change(root, "index.ipynb", "cell2", "It doubles.", "It halves."),
        "index.md: cell cell2 fig-cap is stale: its English text" + CHANGED,
    ),
    "missing": (lose, "index.md: cell cell4 is missing: it has no Chinese text."),
    "empty": (
        garble("也请在 `double` 中阅读。", ""),
        "index.md: cell cell4 is missing: its Chinese text is empty.",
    ),
    "another formula": (
        garble("$2^x$", "$2x$"),
        "index.md: cell cell1 is altered: the formulas" + DIFFER,
    ),
    "another link": (
        garble("#two-steps)", "#two)"),
        "index.md: cell cell1 is altered: the links" + DIFFER,
    ),
    "a heading lost": (
        garble("## 开始\n\n", ""),
        "index.md: cell cell1 is altered: the headings" + DIFFER,
    ),
    "another name": (
        garble("`double`", "`triple`"),
        "index.md: cell cell4 is altered: the names in code" + DIFFER,
    ),
    "a cell that is gone": (
        lambda root: write_notebook(root / "nbs" / "index.ipynb", INDEX[:4]),
        "index.md: cell cell4 is gone from nbs/index.ipynb; delete its entry.",
    ),
    "a word of the navigation": (
        lambda root: (root / "_quarto.yml").write_text(
            QUARTO.replace("section: Part", "section: New")
        ),
        "words.yml: has no word for New, which stands in _quarto.yml.",
    ),
}


@pytest.mark.parametrize("name", SEEDED)
def test_make_test_reports_what_does_not_hold(project, name, monkeypatch, capsys):
    monkeypatch.setattr(check, "ROOT", project)
    assert check.translations() == []
    seed, sentence = SEEDED[name]
    seed(project)
    sentence = f"translations/zh/{sentence}"
    assert sentence in check.translations() and len(check.translations()) == 2
    with pytest.raises(SystemExit, match="1 translation"):
        translation.main([], project)
    assert sentence in capsys.readouterr().out


def test_a_reviewed_translation_is_accepted_and_a_missing_one_drafted(project, capsys):
    SEEDED["stale"][0](project)
    lose(project)
    before = translation.read(project / "translations" / "zh" / "index.md")
    with pytest.raises(SystemExit):
        translation.main(["--accept", "index.ipynb", "cell1"], project)
    assert capsys.readouterr().out.count("\n") == 1, "the missing one is left"
    with pytest.raises(SystemExit):
        translation.main(["--draft", "index.ipynb"], project)
    after = translation.read(project / "translations" / "zh" / "index.md")
    assert (
        after["cell1", ""][1] == before["cell1", ""][1]
        and after["cell1", ""] != before["cell1", ""]
    )
    assert after["cell4", ""] == (translation.UNTRANSLATED, INDEX[4]["source"])
    with pytest.raises(SystemExit, match="has no cell nothing"):
        translation.main(["--accept", "index.ipynb", "nothing"], project)


@pytest.fixture
def pages(project):
    "Builds the preview of the project; returns its folder. No browser, no nbdev."

    def build():
        proc, out = project / "proc", project / "docs"
        for name, title in TITLES.items():
            cells = json.loads((project / "nbs" / f"{name}.ipynb").read_text())["cells"][1:]
            stem = name.partition("_")[2] or name
            head = f"---\ntitle: {title}\noutput-file: {stem}.html\n---"
            (proc / name).parent.mkdir(parents=True, exist_ok=True)
            raw = {"cell_type": "raw", "metadata": {}, "source": head}
            kept = [cell for cell in cells if "#| hide" not in cell["source"]]
            (proc / f"{name}.ipynb").write_text(
                json.dumps(
                    {"cells": [raw, *kept], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
                )
            )
        (proc / "styles.css").write_text("body { color: black }")
        (proc / "api.qmd").write_text("---\ntitle: API\n---\n\nNothing.")
        translated, known = translation.usable(project), translation.phrases(project)
        found = site.prepare(proc, project / "nbs", {"syms": {}}, project, translated, known)
        book = site.Book(
            project / "nbs",
            project / "_quarto.yml",
            site.load(proc, found),
            "tiny",
            "A tiny book.",
            "https://books.invalid/tiny",
            translated=translated,
            known=known,
        )
        assert site.preview(book, proc, out) == []
        return out

    return build


def test_a_translated_page_stands_beside_the_english_one(pages):
    out = pages()
    page, english = (out / "index.zh.html").read_text(), (out / "index.html").read_text()
    assert '<html lang="zh">' in page and '<html lang="en">' in english
    assert '<h1 class="title">一本小书</h1>' in page and "两页" in page and "码率是" in page
    assert 'alt="一条曲线。"' in page and "它加倍。" in page and "The rate" not in page
    assert page.count("plot()") == english.count("plot()") == 1, "one code for both"
    assert '<section id="start"' in page, "anchors are those of the English page"
    assert (
        'href="part/one.zh.html#two-steps"' in page and 'href="part/one.html#two-steps"' in english
    )
    assert '<a class="edition" href="index.zh.html" lang="zh" hreflang="zh">中文</a>' in english
    assert '<a class="edition" href="index.html" lang="en" hreflang="en">English</a>' in page
    assert '<a href="part/one.zh.html">一</a>' in page and "<span>部分</span>" in page
    assert '<a href="part/other.html">Other</a>' in page, "not translated, so in English"
    assert ".zh.html" not in (out / "part" / "other.html").read_text()
    assert 'href="../index.zh.html">那里' in (out / "part" / "one.zh.html").read_text()
    assert "[一本小书](https://books.invalid/tiny/index.zh.html)" in (out / "llms.txt").read_text()


def test_a_page_with_other_code_is_found(pages):
    out = pages()
    names = ("index", "index.zh")
    sources = {f"{name}.ipynb": ({"out": f"{name}.html"}, []) for name in names}
    book = site.Book(None, None, sources, "", "", "", translated=["index.ipynb"])
    assert list(site.check_editions(book, out)) == []
    page = out / "index.zh.html"
    page.write_text(page.read_text().replace("plot", "spot"))
    assert list(site.check_editions(book, out)) == [
        "index.zh.html: its code and outputs differ from those of index.html."
    ]


def test_a_stale_cell_is_shown_in_english(project, pages):
    SEEDED["stale"][0](project)
    SEEDED["stale caption"][0](project)
    lose(project)
    page = (pages() / "index.zh.html").read_text()
    assert "码率是" not in page and "它加倍" not in page and "也请在" not in page
    for words in ("The cost is", "Read it in"):
        assert re.search(rf'<div lang="en">\s*<p>{words}', page), page
    assert "It halves." in page and 'alt="一条曲线。"' in page and '<section id="start"' in page
    assert '<h1 class="title">一本小书</h1>' in page, "the rest stays Chinese"


def test_headings_get_the_identifiers_of_pandoc():
    titles = [
        "The `A_b` (2): of $k$?",
        "2 *bold* steps, 3.5",
        "Same",
        "Same",
        "[Link](x.html) é",
        "7",
    ]
    words = "\n\n".join(f"## {title}" for title in titles)
    body, _ = site.render.__globals__["pandoc"](words, "mathml")
    cells = [{"cell_type": "markdown", "id": "a", "source": words}]
    assert translation.heading_ids(cells)["a"] == re.findall(r'<section id="([^"]+)"', body)


def test_punctuation_stays_with_a_short_formula():
    words = "$x$。 $a$ `$b$，` $$y$$，$\\log p_\\theta(x\\mid z)$，\n\n```sh\n$c$，\n```"
    assert translation.together(words) == words.replace("$x$。", "[$x$。]{.together}")


def test_quarto_gets_a_sidebar_and_a_bar_for_the_edition(project, pages):
    pages()
    translated, known = translation.usable(project), translation.phrases(project)
    (project / "proc" / "_quarto.yml").write_text((project / "_quarto.yml").read_text())
    site.second_sidebar(project / "proc", translated, known)
    website = yaml.safe_load((project / "proc" / "_quarto.yml").read_text())["website"]
    assert [bar["id"] for bar in website["sidebar"]] == ["book", "zh"]
    assert website["sidebar"][1]["contents"] == [
        "index.zh.ipynb",
        {"section": "部分", "contents": ["part/10_one.zh.ipynb", "part/11_other.ipynb"]},
    ]
    head = yaml.safe_load(
        "".join(json.loads((project / "proc" / "index.zh.ipynb").read_text())["cells"][0]["source"])
        .strip()
        .strip("-")
    )
    assert head["lang"] == head["sidebar"] == "zh" and head["output-file"] == "index.zh.html"
    book = site.Book(
        project / "nbs",
        project / "_quarto.yml",
        {
            "part/10_one.zh.ipynb": ({"out": "part/one.zh.html"}, []),
            "index.ipynb": ({"out": "index.html"}, []),
            "index.zh.ipynb": ({"out": "index.zh.html"}, []),
        },
        "",
        "",
        "",
        translated={"index.ipynb": {}},
        known=known,
    )
    bar = (
        '<nav class="navbar navbar-expand-lg"><a class="nav-link" href="../index.html"> '
        '<span class="menu-text">Book</span></a></nav>'
    )
    made = site.translate_navbar(
        f'{bar}<a href="../index.html">x</a>', book.sources["part/10_one.zh.ipynb"][0], book
    )
    assert made == bar.replace("index.html", "index.zh.html").replace("Book", "全书") + (
        '<a href="../index.html">x</a>'
    )


def test_the_search_index_of_quarto_holds_both_languages(pages, project):
    out = pages()
    chinese, english = "隐变量" * 999, "latent " * 999
    entries = [
        {"href": "index.zh.html#start", "text": chinese},
        {"href": "index.html#start", "text": english},
    ]
    names = ("index", "index.zh")
    sources = {f"{name}.ipynb": ({"out": f"{name}.html"}, []) for name in names}
    book = site.Book(None, None, sources, "", "", "", translated=["index.ipynb"])
    (out / "search.json").write_text(json.dumps(entries))
    assert list(site.check_search(book, out)) == []
    assert [site.excerpt(entry) for entry in entries] == [site.CHARACTERS, site.EXCERPT]
    (out / "search.json").write_text(json.dumps(entries[1:]))
    assert list(site.check_search(book, out)) == [
        "search.json: has no Chinese words of index.zh.html."
    ]


def test_the_chinese_readme_follows_the_same_catalogue(project):
    readme.main([], project)
    english, chinese = (project / name for name in ("README.md", "README.zh.md"))
    badges = readme.badges(ROOT)
    assert f"[中文](README.zh.md) {badges}\n\n# A tiny book" in english.read_text()
    assert f"[English](README.md) {badges}\n\n# 一本小书\n\n> 两页" in chinese.read_text()
    assert "见[一](nbs/part/10_one.ipynb#two-steps)" in chinese.read_text()
    assert "![一条曲线。](nbs/images/index-1.png)" in chinese.read_text()
    garble("两页", "二页")(project)
    with pytest.raises(SystemExit, match="README.zh.md does not match"):
        readme.main(["--check"], project)
