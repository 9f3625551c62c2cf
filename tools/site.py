"""Build the book's site and check it: `make docs`.

    python tools/site.py                  # notebooks -> _proc -> _site, checked, and opened in a browser
    python tools/site.py --check FOLDER   # only the checks, over a site that is already built

nbdev processes the notebooks (`show_doc` runs), `prepare` mends what it writes, and Quarto renders the site into _site.
_docs holds the same pages without Quarto, as far as the checks need them: they run where Quarto cannot be installed.
Formulas are rendered here, with KaTeX from npm or else as MathML, so that a page asks no other host for anything.
"""

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from configparser import ConfigParser
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent))
import translation  # noqa: E402
from sitecheck import (  # noqa: E402
    Page,
    check_browser,
    check_site,
    check_sources,
    check_visible,
    find_chromium,
    hrefs,
    long_lines,
    navigation,
    served,
    short,
    text,
    visible,
)
from sitelinks import ambiguous, definitions, link, modules, read_index, symbols  # noqa: E402
from sitepages import Book, options, render, typeset  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
NPM = ["katex@0.16.22", "axe-core@4.10.3"]
LONG = 40  # lines; longer code is folded
EXCERPT, CHARACTERS = 800, 400  # letters, Chinese ones, of a section that the search index keeps


# ---- nbdev: notebooks -> processed notebooks -----------------------------------------------------


@contextmanager
def quiet():
    "What TensorFlow logs goes nowhere; an exception still comes through."
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def process(root):
    """nbdev's processed notebooks in root/_proc, and sentences about what it left out or
    complained about."""
    from nbdev.config import get_config
    from nbdev.quarto import refresh_quarto_yml
    from nbdev.serve import proc_nbs

    os.chdir(root)  # nbdev reads settings.ini from here
    get_config()["skip_procs"] = "add_links"  # tools/sitelinks.py makes the links
    # writes nbs/nbdev.yml from settings.ini; a _quarto.yml that exists is left alone
    refresh_quarto_yml()
    found = [
        p.relative_to("nbs")
        for p in Path("nbs").rglob("*.ipynb")
        if ".ipynb_checkpoints" not in p.parts
    ]
    wanted = [p for p in found if not any(part.startswith("_") for part in p.parts)]
    with quiet(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        proc = Path(proc_nbs("nbs", n_workers=0, force=True))
    Path("nbs/nbdev.yml").unlink()  # nbdev copied it; the working tree stays clean
    mixed = [
        short(str(w.message).partition("---")[2], 90)
        for w in caught
        if "imports and other code" in str(w.message)
    ]
    return proc, [
        *(
            f"a cell mixes imports with other code, so it runs whenever the site is built: {words}."
            for words in mixed
        ),
        *(
            f"{p}: nbdev left this notebook out; it skips every file with a folder in its path that starts with a dot "
            "or is called _proc, _docs or _site."
            for p in wanted
            if not (proc / p).exists()
        ),
    ]


def front_matter(source):
    match = re.match(r"\s*---\s*\n(.*?)\n---\s*(?:\n|$)", source, re.S)
    return (yaml.safe_load(match[1]) or {}, source[match.end() :]) if match else ({}, source)


def prepare(proc, nbs, index, package, translated=None, known=None):
    """Mend the processed notebooks for both renderers; returns {name: title, description, out, shown (the documented symbols)}.

    Symbols become links, what `show_doc` gets wrong is put right, long code and code that only draws is folded, HTML outputs become
    raw Markdown (Quarto would load jQuery from another host for them), and a link to the notebook is added. Every text is written
    as a list of lines: of a string, Quarto loses the newlines. A notebook of `translated` (`usable` of tools/translation.py)
    becomes a second page, 82_first_vae.zh.ipynb beside 82_first_vae.ipynb; `known` translates the words of the navigation.
    """
    translated, known = translated or {}, known or {}
    for path in proc.rglob(f"*.{translation.LANGUAGE}.ipynb"):
        path.unlink()  # of an earlier build
    notebooks = {
        p.relative_to(proc): json.loads(p.read_text(encoding="utf-8"))
        for p in sorted(proc.rglob("*.ipynb"))
    }
    pages = {name.as_posix(): page_meta(name, nb["cells"]) for name, nb in notebooks.items()}
    targets = symbols(index, package, pages)
    for name, nb in notebooks.items():
        nb["metadata"].pop("widgets", None)
        for cell in nb["cells"]:
            cell["source"] = keep_lines(cell["source"])
            fold(cell)
        for cell, following in zip(nb["cells"], nb["cells"][1:] + [None]):
            mend_show_doc(cell, following)
            mend_outputs(cell, lambda words, page=name.as_posix(): link(words, page, targets))
        page = name.as_posix()
        if page in translated:
            words = translated[page]
            cells = translation.translate(page, nb["cells"], words, known, translated)
            for cell in cells:
                cell["source"] = keep_lines(cell["source"])
                mend_outputs(cell, lambda words: words)
            pages[translation.sibling(page)] = meta = translated_meta(
                nbs / name, pages[page], words
            )
            cells = finished(cells, name, nbs, targets, pages[page]["out"], known, translated)
            cells[0] = {**cells[0], "source": keep_lines(f"---\n{front(meta)}---\n")}
            whole = json.dumps({**nb, "cells": cells})
            (proc / translation.sibling(page)).write_text(whole, encoding="utf-8")
        other = pages[translation.sibling(page)]["out"] if page in translated else None
        nb["cells"] = finished(nb["cells"], name, nbs, targets, other)
        (proc / name).write_text(json.dumps(nb), encoding="utf-8")
    return pages


def finished(cells, name, nbs, targets, other=None, known=None, translated=()):
    """A page's cells with symbols linked, and below the title the links to the notebook and to
    the other edition."""
    made = []
    for cell in cells:
        if cell["cell_type"] == "markdown":
            linked = link(text(cell["source"]), name.as_posix(), targets)
            linked = translation.relinked(linked, name.as_posix(), translated)
            cell = {**cell, "source": keep_lines(linked)}
        made.append(cell)
    if (nbs / name).exists():
        href = f"{'../' * (len(name.parts) - 1)}downloads/{name.name}"
        label = translation.phrase("Download this notebook", known or {})
        words = f'<a class="notebook" href="{href}" download>{label}</a>'
        if other:
            language, label = ("zh", "中文") if known is None else ("en", "English")
            target = os.path.basename(other)
            words += f' <a class="edition" href="{target}" lang="{language}" hreflang="{language}">{label}</a>'
        source = keep_lines(f"```{{=html}}\n<p>{words}</p>\n```")
        made.insert(1, {"cell_type": "markdown", "metadata": {}, "source": source})
    return made


def translated_meta(notebook, meta, words):
    "Title, description and place of a page's Chinese edition."
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    first = next(cell["id"] for cell in cells if cell["cell_type"] == "markdown")
    title, description = translation.title(words.get((first, ""), ""))
    return {
        **meta,
        "title": title or meta["title"],
        "description": description or meta["description"],
        "out": translation.sibling(meta["out"]),
        "lang": translation.LANGUAGE,
    }


def front(meta):
    "The front matter of a translated page."
    head = {"title": meta["title"], "description": meta["description"]}
    head |= {
        "output-file": os.path.basename(meta["out"]),
        "lang": meta["lang"],
        "sidebar": meta["lang"],
    }
    return yaml.safe_dump(head, allow_unicode=True, sort_keys=False, width=10_000)


def second_sidebar(proc, translated, known):
    "Quarto's navigation of the Chinese edition: a second sidebar, beside the one of the book."
    path = proc / "_quarto.yml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    sidebar = {**config["website"]["sidebar"], "id": "book"}
    contents = translation.navigation(sidebar["contents"], translated, known)
    config["website"]["sidebar"] = [
        sidebar,
        {**sidebar, "id": translation.LANGUAGE, "contents": contents},
    ]
    path.unlink()  # it may be a link to the project's own
    path.write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False), encoding="utf-8")


def translate_navbar(page, meta, book):
    "The links of Quarto's bar, which is one for the whole site, on a page of the Chinese edition."
    here = os.path.dirname(meta["out"])
    editions = {
        os.path.relpath(book.sources[name][0]["out"], here or "."): os.path.relpath(
            book.sources[translation.sibling(name)][0]["out"], here or "."
        )
        for name in book.translated
    }

    def move(match):
        href = editions.get(match[2].removeprefix("./"), match[2])
        return match[1] + href

    def relabel(match):
        return match[1] + translation.phrase(match[2], book.known) + match[3]

    head, bar, rest = re.split(r"(?s)(<nav class=\"navbar.*?</nav>)", page, maxsplit=1)
    bar = re.sub(r'(<a\b[^>]*?\bhref=")([^"#]+)', move, bar)
    bar = re.sub(r'(<span class="menu-text">)([^<]*)(</span>)', relabel, bar)
    return head + bar + rest


def keep_lines(words):
    "A text as a list of lines, each with its newline."
    return text(words).splitlines(keepends=True)


def page_meta(name, cells):
    head = (
        front_matter(text(cells[0]["source"]))[0]
        if cells and cells[0]["cell_type"] == "raw"
        else {}
    )
    out = name.with_name(head.get("output-file", name.stem + ".html")).as_posix()
    shown = [
        m for cell in cells for m in re.findall(r"^show_doc\(([\w.]+)", text(cell["source"]), re.M)
    ]
    return {
        "title": head.get("title", name.stem),
        "description": head.get("description", ""),
        "out": out,
        "shown": shown,
    }


def fold(cell):
    """Fold code that is long, and code that only draws the figure below it, so that a page reads
    as text, mathematics, code and pictures."""
    if cell["cell_type"] != "code":
        return
    opts, source = options(cell["source"])
    if opts.get("echo") == "false" or opts.get("code-fold", "show") != "show":
        return
    exported = "code-fold" in opts  # nbdev's word for `#| exports`
    if len(source) > LONG:
        summary = f"{'Exported source' if exported else 'Code'}, {len(source)} lines"
    elif not exported and only_draws(cell):
        summary = "Code of the figure"
    else:
        return
    rest = [line for line in cell["source"] if not re.match(r"#\|\s*code-(fold|summary):", line)]
    cell["source"] = ["#| code-fold: true\n", f'#| code-summary: "{summary}"\n', *rest]


def only_draws(cell):
    "Does a cell show pictures alone, and neither check, define nor train anything?"
    kinds = [set(out.get("data", {out["output_type"]: ""})) for out in cell["outputs"]]
    if not kinds or not all(any(k.startswith("image/") for k in kind) for kind in kinds):
        return False
    teaches = (ast.Assert, ast.FunctionDef, ast.ClassDef)
    nodes = list(ast.walk(ast.parse(text(cell["source"]))))
    called = {
        getattr(n.func, "attr", getattr(n.func, "id", "")) for n in nodes if isinstance(n, ast.Call)
    }
    trains = any(re.match(r"fit|compile|train", name) for name in called)
    return not trains and not any(isinstance(n, teaches) for n in nodes)


def mend_outputs(cell, linked):
    """Outputs as lists of lines, HTML as raw Markdown, symbols in Markdown as links; no widget
    that needs a kernel."""
    for out in cell.get("outputs", []):
        data = out.get("data", {})
        data.pop("application/vnd.jupyter.widget-view+json", None)
        if "text/html" in data:
            raw = text(data.pop("text/html")).strip()
            data.setdefault("text/markdown", f"`````{{=html}}\n{raw}\n`````")
        if "text/markdown" in data:
            data["text/markdown"] = linked(text(data["text/markdown"]))
        for words, kind in [(out, "text"), *((data, kind) for kind in data if kind[:5] == "text/")]:
            if kind in words:
                words[kind] = keep_lines(words[kind])


def mend_show_doc(cell, following):
    """What `show_doc` writes, for the page: the signature goes where the symbol's whole source follows in sight, stars in the docstring
    stay stars, the source is linked below the heading, which gets a class."""
    match = re.search(r"^show_doc\((\w+)", text(cell["source"]), re.M)
    if match is None:
        return
    opts, source = options(following["source"]) if following else ({}, [])
    sight = opts.get("code-fold") == "show" and re.search(
        rf"^(?:def|class) {match[1]}\b", "".join(source), re.M
    )
    for out in cell["outputs"]:
        words = text(out.get("data", {}).get("text/markdown")).removeprefix("---\n\n")
        parts = re.match(r"(.*?)(```python\n.*?\n```\n?)(.*)", words, re.S)
        head, signature, doc = parts.groups() if parts else (words, "", "")
        head = re.sub(r"\{target=.*?\}", '{.symbol-source target="_blank"}', head)
        head = re.sub(r"(.*?)(^#+ .*?$)\n*", r"\2 {.symbol}\n\n\1", head, flags=re.M | re.S)
        doc = re.sub(r"^(\s*)\*(.+)\*$", r"\1\2", doc, count=1, flags=re.M)
        doc = "`".join(
            part if i % 2 else part.replace("*", r"\*") for i, part in enumerate(doc.split("`"))
        )
        signature = "" if sight or not signature else signature + "\n"
        out["data"] = {"text/markdown": head + signature + doc.lstrip("\n")}


def api_page(index, package, pages, sidebar=None):
    "The page of all public symbols as Markdown, from nbdev's index: symbol, one line, link."
    sources = {page["out"]: name for name, page in pages.items()}
    lines = [
        "---",
        "title: API",
        "description: Every public symbol, what it is, and the chapter that derives it.",
        *([f"sidebar: {sidebar}"] if sidebar else []),
        "---",
        "",
    ]
    chapter_of = {
        module: sources.get(target.split("#")[0])
        for module, names in index["syms"].items()
        for target, _ in names.values()
    }
    for module, chapter in sorted(
        chapter_of.items(), key=lambda pair: os.path.basename(pair[1] or "")
    ):
        docs, rows = docstrings(package / (module.split(".")[-1] + ".py")), []
        for symbol in (name.removeprefix(module + ".") for name in index["syms"][module]):
            shown = chapter and symbol in pages[chapter]["shown"]
            if not any(part.startswith("_") for part in symbol.split(".")) and (
                shown or "." not in symbol
            ):
                link = f"[`{symbol}`]({chapter}#{symbol.lower()})" if shown else f"`{symbol}`"
                rows.append(f"| {link} | {escape(docs.get(symbol, ''))} |")
        if rows and chapter:
            lines += [f"## {module}", "", f"From [{pages[chapter]['title']}]({chapter}).", ""]
            lines += ["| symbol | what it is |", "|---|-------|", *rows, ""]
    return "\n".join(lines)


def docstrings(path):
    "The first line of each docstring of a module: {'VAE': ..., 'VAE.encode': ...}."
    found = {}
    for name, (node, _) in definitions(path).items():
        inside = node.body if isinstance(node, ast.ClassDef) else []
        documented = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        members = [(f"{name}.{m.name}", m) for m in inside if isinstance(m, documented)]
        for full, item in [(name, node), *members]:
            found[full] = (ast.get_docstring(item) or "").partition("\n\n")[0].replace("\n", " ")
    return found


def escape(words):
    parts = words.split("`")  # odd parts are code
    return "`".join(
        p if i % 2 else re.sub(r"([\\*_$|<>\[\]@#~^])", r"\\\1", p) for i, p in enumerate(parts)
    )


# ---- the whole -----------------------------------------------------------------------------------


def npm_packages(cache):
    "The folder with KaTeX and axe-core, fetched once; None without node, npm or network."
    folder = cache / "node_modules"
    names = [package.rpartition("@")[0] for package in NPM]
    if not shutil.which("node"):
        return None
    if not all((folder / n / "package.json").exists() for n in names) and shutil.which("npm"):
        cache.mkdir(parents=True, exist_ok=True)
        (cache / "package.json").write_text("{}")
        with suppress(subprocess.TimeoutExpired):
            command = ["npm", "install", "--no-audit", "--no-fund", "--fetch-retries=1", *NPM]
            subprocess.run(command, cwd=cache, capture_output=True, timeout=120)
    return folder if all((folder / n / "package.json").exists() for n in names) else None


def load(proc, pages):
    """{name: (meta, cells)} of the processed notebooks and of the pages that were written as
    text (.qmd)."""
    sources = {
        name: (meta, json.loads((proc / name).read_text(encoding="utf-8"))["cells"])
        for name, meta in pages.items()
    }
    for path in sorted(proc.rglob("*.qmd")):
        head, body = front_matter(path.read_text(encoding="utf-8"))
        name = path.relative_to(proc).as_posix()
        meta = {
            "out": name[:-3] + "html",
            "title": head["title"],
            "description": head.get("description", ""),
        }
        sources[name] = (meta, [{"cell_type": "markdown", "source": keep_lines(body)}])
    return sources


def excerpt(entry):
    "How much of an entry's text the search index keeps: of both languages about as many words."
    chinese = f".{translation.LANGUAGE}.html" in entry.get("href", "")
    return CHARACTERS if chinese else EXCERPT


def check_search(book, out):
    "Sentences about the pages of the Chinese edition whose words Quarto's search does not find."
    index = out / "search.json"
    entries = json.loads(index.read_text(encoding="utf-8")) if index.exists() else []
    for name in book.translated if index.exists() else ():
        page = book.sources[translation.sibling(name)][0]["out"]
        texts = [e.get("text", "") for e in entries if e.get("href", "").split("#")[0] == page]
        if not re.search("[\u4e00-\u9fff]", "".join(texts)):
            yield f"search.json: has no Chinese words of {page}."


def finish(book, out):
    """What both renderers need beside their pages: formulas, a short search index, the notebooks
    to download, and llms.txt."""
    for name in book.translated:
        meta = book.sources[translation.sibling(name)][0]
        page = out / meta["out"]
        if page.exists() and '<nav class="navbar' in (words := page.read_text(encoding="utf-8")):
            page.write_text(translate_navbar(words, meta, book), encoding="utf-8")
    if book.katex:
        typeset(out, book.katex)
    if (search := out / "search.json").exists():
        entries = json.loads(search.read_text(encoding="utf-8"))
        entries = [{**entry, "text": entry["text"][: excerpt(entry)]} for entry in entries]
        search.write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    (out / "downloads").mkdir()
    lines = [f"# {book.title}", "", f"> {book.description}", "", "## Chapters", ""]
    for name in dict.fromkeys([*hrefs(navigation(book.quarto_yml)[0]), *book.sources]):
        if name in book.sources:
            meta = book.sources[name][0]
            lines.append(f"- [{meta['title']}]({book.url}/{meta['out']}): {meta['description']}")
        if (book.nbs / name).exists():
            shutil.copy(book.nbs / name, out / "downloads")
    (out / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def plain_code(page):
    "What stands in a page's code blocks, without comments: those of the prose are translated."
    return re.sub(r"\s*#.*", "", "".join(Page(page).code))


def check_editions(book, out):
    "Sentences about the pages of the Chinese edition whose code is not that of the English one."
    for name in book.translated:
        english, chinese = (
            book.sources[page][0]["out"] for page in (name, translation.sibling(name))
        )
        if not (out / chinese).exists():
            yield f"{chinese}: was not built."
        elif plain_code(out / english) != plain_code(out / chinese):
            yield f"{chinese}: its code and outputs differ from those of {english}."


def preview(book, proc, out):
    "The pages as Quarto makes them, by pandoc; returns sentences about their defects."
    shutil.rmtree(out, ignore_errors=True)
    skipped = shutil.ignore_patterns("*.ipynb", "*.qmd", "*.yml", "*.scss", "_*")
    shutil.copytree(proc, out, ignore=skipped)
    problems = render(book, out)
    finish(book, out)
    problems += check_editions(book, out)
    return problems + check_site(out, book.url, book.unclear)


def official(book, proc, out, axe=None):
    "The site by Quarto; returns sentences about its defects, a browser's included."
    command = ["quarto", "render", "--no-cache"]
    run = subprocess.run(command, cwd=proc, capture_output=True, text=True)
    if run.returncode:
        return [f"quarto render failed: {run.stderr.strip()[-500:]}"]
    shutil.rmtree(out, ignore_errors=True)
    shutil.move(proc / "_docs", out)
    finish(book, out)
    problems = [*check_editions(book, out), *check_search(book, out)]
    with served(out) as base:
        problems += check_site(out, book.url, book.unclear)
        return problems + open_pages(out, axe, base)


def open_pages(folder, axe=None, base=None):
    "The browser's findings, or one line about why there are none (a finding where CI is set)."
    chromium = find_chromium()
    if chromium:
        return check_browser(folder, chromium, base, axe)
    sentence = "The pages were not opened in a browser: no Chromium was found."
    print(sentence)
    return [sentence] if os.environ.get("CI") == "true" else []


def build(root, fetch=True, browser=True):
    """Build and check everything; returns sentences about the defects. `fetch` allows npm to
    fetch KaTeX and axe-core; without `browser` no page is opened."""
    settings = ConfigParser(delimiters=["="])
    settings.read(root / "settings.ini", encoding="utf-8")
    cfg = settings["DEFAULT"]
    npm = npm_packages(root / "build" / "npm") if fetch else None
    if npm is None:
        print("KaTeX is not here (it comes through npm and runs in node): formulas are MathML.")
    proc, problems = process(root)
    url = cfg["doc_host"] + cfg["doc_baseurl"]
    package = root / cfg["lib_path"]
    index = read_index(package)
    translated, known = translation.usable(root), translation.phrases(root)
    pages = prepare(proc, root / "nbs", index, package, translated, known)
    originals = {name: meta for name, meta in pages.items() if "lang" not in meta}
    api = api_page(index, package, originals, "book" if translated else None)
    (proc / "api.qmd").write_text(api, encoding="utf-8")
    if translated:
        second_sidebar(proc, translated, known)
    book = Book(
        nbs=root / "nbs",
        quarto_yml=root / "_quarto.yml",
        sources=load(proc, pages),
        title=cfg["title"],
        description=cfg["description"],
        url=url,
        katex=npm and npm / "katex" / "dist",
        unclear=ambiguous(modules(index, package)),
        translated=translated,
        known=known,
    )
    axe = npm and npm / "axe-core" / "axe.min.js"
    problems += check_sources(book.nbs, book.quarto_yml)
    problems += preview(book, proc, root / "_docs")
    problems += open_pages(root / "_docs", axe) if browser else []
    shares = visible(book.nbs, book.quarto_yml, root / "_docs", pages)
    problems += check_visible(shares)
    print(f"{len(book.sources)} pages in _docs")
    for section, (seen, total) in shares.items():
        print(
            f"  {section}: {seen} of {total} exported lines are on its pages ({seen / total:.0%})"
        )
    problems += long_lines(book.nbs)
    for sentence in translation.review(root):
        print(f"  {sentence}")
    if shutil.which("quarto"):
        problems += [f"_site/{found}" for found in official(book, proc, root / "_site", axe)]
        print("Quarto's site in _site")
    else:
        print("Quarto is not installed: only what the checks need was built.")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", metavar="FOLDER", type=Path, help="only check a site that is already built"
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=ROOT,
        help="the project whose site is built (default: this one)",
    )
    parser.add_argument(
        "--no-fetch", action="store_true", help="formulas as MathML, nothing from npm"
    )
    parser.add_argument("--no-browser", action="store_true", help="no page is opened")
    args = parser.parse_args()
    problems = (
        check_site(args.check) + open_pages(args.check)
        if args.check
        else build(args.root.resolve(), not args.no_fetch, not args.no_browser)
    )
    for sentence in problems:
        print(f"  {sentence}")
    print(
        f"{len(problems)} problem{'s' * (len(problems) > 1)} in the site."
        if problems
        else "The site has no problems."
    )
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
