"""Build the book's site and check it: `make docs`.

    python tools/site.py                  # notebooks -> _proc -> _docs, checked, and opened in a browser
    python tools/site.py --check FOLDER   # only the checks, over a site that is already built

nbdev processes the notebooks (symbols become links, `show_doc` runs). pandoc renders them with the navigation of _quarto.yml;
formulas are rendered here, with KaTeX from npm or else as MathML, so that a page asks no other host for anything.
Where Quarto is installed it builds the official site into _site, and the same checks run over that.
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
from sitecheck import (
    check_browser,
    check_site,
    check_sources,
    find_chromium,
    hrefs,
    navigation,
    served,
    short,
    text,
)  # noqa: E402
from sitepages import Book, render, typeset  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
NPM = ["katex@0.16.22", "axe-core@4.10.3"]


# ---- nbdev: notebooks -> processed notebooks -------------------------------------------------------------------------------


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
    "nbdev's processed notebooks in root/_proc, and sentences about what it left out or complained about."
    from nbdev.quarto import refresh_quarto_yml
    from nbdev.serve import proc_nbs

    os.chdir(root)  # nbdev reads settings.ini from here
    refresh_quarto_yml()  # writes nbs/nbdev.yml from settings.ini; a _quarto.yml that exists is left alone
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


def prepare(proc, nbs, url):
    """Mend the processed notebooks for both renderers; returns {name: title, description, out, shown (the documented symbols)}.

    HTML outputs become raw Markdown (Quarto would load jQuery from another host for them), what `show_doc` and the automatic links
    get wrong is put right, and a link to the notebook is added.
    """
    notebooks = {
        p.relative_to(proc): json.loads(p.read_text(encoding="utf-8"))
        for p in sorted(proc.rglob("*.ipynb"))
    }
    pages = {name.as_posix(): page_meta(name, nb["cells"]) for name, nb in notebooks.items()}
    anchors = {
        f"{url}/{page['out']}#{symbol.lower()}"
        for page in pages.values()
        for symbol in page["shown"]
    }
    for name, nb in notebooks.items():
        nb["metadata"].pop("widgets", None)
        for cell, following in zip(nb["cells"], nb["cells"][1:] + [None]):
            mend_outputs(cell)
            mend_show_doc(
                cell,
                text(following["source"])
                if following and "code-summary" in text(following["source"])
                else "",
            )
            if cell["cell_type"] == "markdown":
                cell["source"] = mend_links(text(cell["source"]), url, anchors)
        if (nbs / name).exists():
            link = f'<a class="notebook" href="{"../" * (len(name.parts) - 1)}downloads/{name.name}" download>Download this notebook</a>'
            nb["cells"].insert(
                1,
                {
                    "cell_type": "markdown",
                    "metadata": {},
                    "source": f"```{{=html}}\n<p>{link}</p>\n```",
                },
            )
        (proc / name).write_text(json.dumps(nb), encoding="utf-8")
    return pages


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


def mend_links(markdown, url, anchors):
    "nbdev links every symbol in backticks; where a page does not document it, link its class, or nothing."

    def mend(match):
        words, target = match.groups()
        owner = target.rpartition(".")[0] if "." in target.partition("#")[2] else ""
        return (
            f"[{words}]({target})"
            if target in anchors
            else f"[{words}]({owner})"
            if owner in anchors
            else words
        )

    return re.sub(rf"\[(`[^`]+`)\]\(({re.escape(url)}/[^)\s]+#[^)\s]+)\)", mend, markdown)


def mend_outputs(cell):
    "HTML outputs as raw Markdown; no widget that needs a kernel."
    for out in cell.get("outputs", []):
        data = out.get("data", {})
        data.pop("application/vnd.jupyter.widget-view+json", None)
        if "text/html" in data:
            raw = text(data.pop("text/html")).strip()
            data.setdefault("text/markdown", f"`````{{=html}}\n{raw}\n`````")


def mend_show_doc(cell, source):
    """Three repairs of what `show_doc` writes: stars in the docstring stay stars, no link stands inside code, and the signature
    goes where the symbol's whole source follows."""
    match = re.search(r"^show_doc\((\w+)", text(cell["source"]), re.M)
    follows = match and re.search(rf"^(?:def|class) {match[1]}\b", source, re.M)
    for out in cell.get("outputs", []) if match else []:
        signature = re.compile(r"```python\n.*?\n```\n?", re.S)
        markdown = text(out.get("data", {}).get("text/markdown"))
        markdown = signature.sub(
            lambda m: "" if follows else re.sub(r"\[(`[^`]+`)\]\([^)]+\)", r"\1", m[0]),
            markdown,
            count=1,
        )
        markdown = re.sub(
            r"(?<=\n)\*(?!\*)(.+)\*\s*$",
            lambda m: "*" + m[1].replace("*", r"\*") + "*",
            markdown,
            flags=re.S,
        )
        out["data"] = {"text/markdown": markdown}


def api_page(index, package, pages):
    "The page of all public symbols as Markdown, from nbdev's index: symbol, one line, link."
    sources = {page["out"]: name for name, page in pages.items()}
    lines = [
        "---",
        "title: API",
        "description: Every public symbol, what it is, and the chapter that derives it.",
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
    for node in ast.parse(path.read_text(encoding="utf-8")).body if path.exists() else []:
        members = (
            [(f"{node.name}.{m.name}", m) for m in node.body if hasattr(m, "name")]
            if isinstance(node, ast.ClassDef)
            else []
        )
        for name, item in [(getattr(node, "name", ""), node), *members]:
            if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found[name] = (
                    (ast.get_docstring(item) or "").partition("\n\n")[0].replace("\n", " ")
                )
    return found


def escape(words):
    parts = words.split("`")  # odd parts are code
    return "`".join(
        p if i % 2 else re.sub(r"([\\*_$|<>\[\]@#~^])", r"\\\1", p) for i, p in enumerate(parts)
    )


# ---- the whole -------------------------------------------------------------------------------------------------------------


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
    "{name: (meta, cells)} of the processed notebooks and of the pages that were written as text (.qmd)."
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
        sources[name] = (meta, [{"cell_type": "markdown", "source": body}])
    return sources


def finish(book, out):
    "What both renderers need beside their pages: formulas, the notebooks to download, and llms.txt."
    if book.katex:
        typeset(out, book.katex)
    (out / "downloads").mkdir()
    lines = [f"# {book.title}", "", f"> {book.description}", "", "## Chapters", ""]
    for name in dict.fromkeys([*hrefs(navigation(book.quarto_yml)[0]), *book.sources]):
        if name in book.sources:
            meta = book.sources[name][0]
            lines.append(f"- [{meta['title']}]({book.url}/{meta['out']}): {meta['description']}")
        if (book.nbs / name).exists():
            shutil.copy(book.nbs / name, out / "downloads")
    (out / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def preview(book, proc, out):
    "The site by pandoc; returns sentences about its defects."
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(proc, out, ignore=shutil.ignore_patterns("*.ipynb", "*.qmd", "*.yml", "_*"))
    problems = render(book, out)
    finish(book, out)
    return problems + check_site(out, book.url)


def official(book, proc, out):
    "The site by Quarto; returns sentences about its defects, a browser's included."
    run = subprocess.run(
        ["quarto", "render", "--no-cache"], cwd=proc, capture_output=True, text=True
    )
    if run.returncode:
        return [f"quarto render failed: {run.stderr.strip()[-500:]}"]
    shutil.rmtree(out, ignore_errors=True)
    shutil.move(proc / "_docs", out)
    finish(book, out)
    with served(out) as base:
        return check_site(out, book.url) + open_pages(out, base=base)


def open_pages(folder, axe=None, base=None):
    "The browser's findings, or one line about why there are none (a finding where CI is set)."
    chromium = find_chromium()
    if chromium:
        return check_browser(folder, chromium, base, axe)
    sentence = "The pages were not opened in a browser: no Chromium was found."
    print(sentence)
    return [sentence] if os.environ.get("CI") == "true" else []


def build(root, fetch=True):
    "Build and check everything; returns sentences about the defects. `fetch` allows npm to fetch KaTeX and axe-core."
    settings = ConfigParser(delimiters=["="])
    settings.read(root / "settings.ini", encoding="utf-8")
    cfg = settings["DEFAULT"]
    npm = npm_packages(root / "build" / "npm") if fetch else None
    if npm is None:
        print("KaTeX is not here (it comes through npm and runs in node): formulas are MathML.")
    proc, problems = process(root)
    url = cfg["doc_host"] + cfg["doc_baseurl"]
    pages = prepare(proc, root / "nbs", url)
    package = root / cfg["lib_path"]
    index = ast.literal_eval(
        (package / "_modidx.py").read_text(encoding="utf-8").partition("d = ")[2]
    )
    (proc / "api.qmd").write_text(api_page(index, package, pages), encoding="utf-8")
    book = Book(
        nbs=root / "nbs",
        quarto_yml=root / "_quarto.yml",
        sources=load(proc, pages),
        title=cfg["title"],
        description=cfg["description"],
        url=url,
        katex=npm and npm / "katex" / "dist",
    )
    problems += check_sources(book.nbs, book.quarto_yml)
    problems += preview(book, proc, root / "_docs") + open_pages(
        root / "_docs", npm and npm / "axe-core" / "axe.min.js"
    )
    print(f"{len(book.sources)} pages in _docs")
    if shutil.which("quarto"):
        problems += [f"_site/{sentence}" for sentence in official(book, proc, root / "_site")]
        print("Quarto's site in _site")
    else:
        print("Quarto is not installed: only the preview was built.")
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
    args = parser.parse_args()
    problems = (
        check_site(args.check) + open_pages(args.check)
        if args.check
        else build(args.root.resolve(), not args.no_fetch)
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
