"""The preview's pages: cells of processed notebooks -> Markdown -> pandoc -> HTML, with the navigation of _quarto.yml.

render(book, out)            write every page, the search index, the preview's style and script
typeset(folder, katex)       render the formulas of all pages with KaTeX, in one run of node
"""

import html
import json
import os
import re
import shutil
import subprocess
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path
from string import Template

import yaml
from sitecheck import HOST, Page, hrefs, navigation, text

PREVIEW = Path(__file__).resolve().parent / "preview"
FORMULA = re.compile(r'<span\s+class="math (inline|display)">(.*?)</span>', re.S)


@dataclass
class Book:
    "What is built, and from what."

    nbs: Path  # the notebooks as their authors left them
    quarto_yml: Path  # the navigation
    sources: dict  # {name in nbs: (meta, cells)}; meta: title, description, out
    title: str
    description: str
    url: str  # where the site is published
    katex: Path = None  # KaTeX's files; None: formulas become MathML


# ---- cells -> Markdown -----------------------------------------------------------------------------------------------------


def options(source):
    "A cell's `#| key: value` directives, and its source without them."
    pairs = dict(re.findall(r"^#\|\s*([\w-]+):?[ \t]*(.*?)[ \t]*$", source, re.M))
    pairs = {k: str(yaml.safe_load(v)) if v[:1] in {'"', "'"} else v for k, v in pairs.items()}
    return pairs, re.sub(r"^#\|.*\n?", "", source, flags=re.M).strip("\n")


def block(body, kind, attributes=""):
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", body)), default=0))
    return f"::: {{.{kind}}}\n{fence}{attributes}\n{body.rstrip()}\n{fence}\n:::"


def raw(markup):
    return f"```{{=html}}\n{markup}\n```"


def output(out, opts, picture):
    "One saved output as Markdown."
    data = out.get("data", {})
    if out["output_type"] == "stream":
        return block(text(out["text"]), f"cell-output .cell-output-{out['name']}")
    if out["output_type"] == "error":
        return block(f"{out['ename']}: {out['evalue']}", "cell-output .cell-output-error")
    for kind in ("image/svg+xml", "image/png", "image/jpeg"):
        if kind in data:
            src, size = picture(kind, text(data[kind]))
            label, caption = opts.get("label", ""), opts.get("fig-cap", "")
            name = f"#{label} " if label.startswith("fig-") else ""
            alt = html.escape(opts.get("fig-alt", ""), quote=True)
            return f'![{caption}]({src}){{{name}alt="{alt}"{size}}}'
    if "text/markdown" in data:
        return f"::: {{.cell-output .cell-output-display}}\n{text(data['text/markdown'])}\n:::"
    if "text/latex" in data:
        return text(data["text/latex"])
    return (
        block(text(data["text/plain"]), "cell-output .cell-output-display")
        if "text/plain" in data
        else ""
    )


def code_cell(cell, picture):
    "A code cell's visible source and outputs as Markdown."
    opts, source = options(text(cell["source"]))
    if opts.get("include") == "false":
        return ""
    parts = []
    if source and opts.get("echo") != "false":
        shown = block(source, "cell-code", "python")
        if opts.get("code-fold", "false") != "false":
            opened = " open" if opts["code-fold"] == "show" else ""
            summary = html.escape(opts.get("code-summary", "Code"))
            before = f'<details class="code-fold"{opened}><summary>{summary}</summary>'
            shown = f"{raw(before)}\n\n{shown}\n\n{raw('</details>')}"
        parts.append(shown)
    if opts.get("output") != "false":
        parts += filter(None, (output(out, opts, picture) for out in cell.get("outputs", [])))
    return "::: {.cell}\n" + "\n\n".join(parts) + "\n:::" if parts else ""


def to_markdown(cells, assets, prefix):
    "The cells as pandoc's Markdown; pictures are written into the folder `assets`, which the page reaches as `prefix`."
    count = 0

    def picture(kind, data):
        nonlocal count
        count += 1
        assets.mkdir(parents=True, exist_ok=True)
        name, raw = (
            f"figure-{count}.{kind[6:9]}",
            data.encode() if kind.endswith("xml") else b64decode(data),
        )
        (assets / name).write_bytes(raw)
        size = (
            f" width={int.from_bytes(raw[16:20])} height={int.from_bytes(raw[20:24])}"
            if kind == "image/png"
            else ""
        )
        return f"{prefix}/{name}", size

    blocks = (
        code_cell(c, picture) if c["cell_type"] == "code" else text(c["source"])
        for c in cells
        if c["cell_type"] != "raw"
    )
    return "\n\n".join(blocks)


def cross_references(markdown):
    "Number labelled equations and figures; returns the Markdown and what each label is called."
    names = {}

    def equation(match):
        names[match[2]] = f"Equation {1 + sum(k.startswith('eq-') for k in names)}"
        return f"::: {{#{match[2]} .equation}}\n{match[1]}\n\n[({names[match[2]].split()[1]})]{{.number}}\n:::"

    def figure(match):
        names[match[3]] = f"Figure {1 + sum(k.startswith('fig-') for k in names)}"
        return f"![{names[match[3]]}: {match[1]}]({match[2]}){{#{match[3]}"

    markdown = re.sub(
        r"(\$\$(?:(?!\$\$).)+\$\$)[ \t]*\{#(eq-[\w-]+)\}", equation, markdown, flags=re.S
    )
    markdown = re.sub(r"!\[((?:[^\]\n]|\](?!\())*)\]\(([^)\s]+)\)\{#(fig-[\w-]+)", figure, markdown)
    names.update({label: "Section" for label in re.findall(r"\{#(sec-[\w-]+)", markdown)})
    names.update({label: "Table" for label in re.findall(r"\{#(tbl-[\w-]+)", markdown)})
    return markdown, names


# ---- Markdown -> pages -----------------------------------------------------------------------------------------------------


def pandoc(markdown, math):
    "An HTML fragment, and pandoc's complaints about divs (formulas that it cannot convert stay visible and are found later)."
    import pypandoc

    run = subprocess.run(
        [
            pypandoc.get_pandoc_path(),
            "-f",
            "markdown-smart",
            "-t",
            "html5",
            "--wrap=none",
            f"--{math}",
        ],
        input=markdown,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    return run.stdout, re.findall(r"\[WARNING\] ((?:Div|.*[Dd]uplicate).*)", run.stderr)


def relink(body, name, book):
    "Links between notebooks, and to the published site, as links between pages."
    here = os.path.dirname(name)

    def move(match):
        path, hashed, anchor = html.unescape(match[1]).partition("#")
        target = book.sources.get(os.path.normpath(os.path.join(here, path)), [{}])[0].get("out")
        if path.startswith(book.url):
            target = path[len(book.url) :].strip("/") or "index.html"
        return (
            match[0]
            if target is None
            else f'href="{html.escape(os.path.relpath(target, here or ".") + hashed + anchor)}"'
        )

    return re.sub(r'href="([^"]+)"', move, body)


def render(book, out):
    "Write the pages of a book into `out`; returns sentences. With KaTeX, formulas stay TeX until `typeset` renders them."
    index, problems = [], []
    for name, (meta, cells) in book.sources.items():
        target = out / meta["out"]
        target.parent.mkdir(parents=True, exist_ok=True)
        markdown, names = cross_references(
            to_markdown(cells, target.with_name(target.stem + "_files"), target.stem + "_files")
        )
        summary = (
            f"\n::: {{.description}}\n{meta['description']}\n:::\n" if meta["description"] else ""
        )
        body, complaints = pandoc(
            f"# {meta['title']} {{#title .title}}\n{summary}\n{markdown}",
            "katex" if book.katex else "mathml",
        )
        body = re.sub(
            r'<span class="citation" data-cites="((?:fig|eq|tbl|sec)-[\w-]+)">.*?</span>',
            lambda m: (
                f'<a href="#{m[1]}">{names[m[1]]}</a>'
                if m[1] in names
                else f"<strong>?@{m[1]}</strong>"
            ),
            body,
        )
        body = re.sub(
            r"<table.*?</table>", lambda m: f'<div class="table">{m[0]}</div>', body, flags=re.S
        )
        target.write_text(framed(book, name, relink(body, name, book)), encoding="utf-8")
        problems += [f"{meta['out']}: malformed div: {words}" for words in complaints]
        for anchor, heading, words in Page(target).sections:
            url = meta["out"] + (f"#{anchor}" if anchor else "")
            index.append(
                {
                    "page": meta["title"],
                    "heading": heading,
                    "url": url,
                    "text": " ".join(words.split())[:1500],
                }
            )
    (out / "search.js").write_text(
        f"window.SEARCH = {json.dumps(index, ensure_ascii=False)};\n", encoding="utf-8"
    )
    for asset in ("preview.css", "preview.js"):
        shutil.copy(PREVIEW / asset, out)
    return problems


def framed(book, name, body):
    "A page: the body within the template's bar, chapter list, table of contents and links to the neighbours."
    pages = {source: meta for source, (meta, _) in book.sources.items()}
    sidebar, navbar = navigation(book.quarto_yml)
    order = [source for source in dict.fromkeys(hrefs(sidebar)) if source in pages]
    title = (
        pages[name]["title"]
        if pages[name]["out"] == "index.html"
        else f"{pages[name]['title']} | {book.title}"
    )
    root = "../" * pages[name]["out"].count("/")
    template = Template((PREVIEW / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=html.escape(title),
        site=html.escape(book.title),
        description=html.escape(pages[name]["description"], quote=True),
        root=root,
        body=body,
        toc=contents(body),
        turn=turn(name, order, pages, root),
        sidebar=chapters(sidebar, name, pages, root),
        navbar="\n".join(item(entry, name, pages, root) for entry in navbar),
    )


def item(entry, name, pages, root):
    "One link of the navigation; a page that does not exist is left out (`check_sources` reports it)."
    entry = {"href": entry} if isinstance(entry, str) else entry
    href, label = entry["href"], entry.get("text")
    if HOST.match(href):
        return f'<a href="{html.escape(href)}">{html.escape(label or href)}</a>'
    if href not in pages:
        return ""
    here = ' aria-current="page"' if href == name else ""
    return f'<a href="{root}{pages[href]["out"]}"{here}>{html.escape(label or pages[href]["title"])}</a>'


def chapters(entries, name, pages, root):
    parts = []
    for entry in entries:
        if isinstance(entry, dict) and "section" in entry:
            inside = chapters(entry["contents"], name, pages, root)
            parts += (
                [f'<li><span class="part">{html.escape(entry["section"])}</span>\n{inside}</li>']
                if inside
                else []
            )
        elif link := item(entry, name, pages, root):
            parts.append(f"<li>{link}</li>")
    return "<ul>\n" + "\n".join(parts) + "\n</ul>" if parts else ""


def contents(body):
    "The page's own table of contents."
    found = re.findall(r'<h([23])[^>]*? id="([^"]+)"[^>]*>(.*?)</h\1>', body, re.S)
    lines = [
        f'<li class="level{level}"><a href="#{anchor}">{re.sub("</?a[^>]*>", "", words)}</a></li>'
        for level, anchor, words in found
    ]
    return "<p>On this page</p>\n<ul>\n" + "\n".join(lines) + "\n</ul>" if lines else ""


def turn(name, order, pages, root):
    at = order.index(name) if name in order else None
    sides = (
        {}
        if at is None
        else {
            "previous": order[at - 1] if at else None,
            "next": order[at + 1] if at + 1 < len(order) else None,
        }
    )
    return "\n".join(
        f'<a class="{side}" rel="{side[:4]}" href="{root}{pages[p]["out"]}"><span>{side.title()}</span> '
        f"{html.escape(pages[p]['title'])}</a>"
        for side, p in sides.items()
        if p
    )


def typeset(folder, katex):
    "Render the formulas of every page in `folder`; a formula that fails is marked, and found by the checks. Adds KaTeX's style and fonts."
    paths = list(Path(folder).rglob("*.html"))
    found = {
        (html.unescape(tex), kind == "display")
        for p in paths
        for kind, tex in FORMULA.findall(p.read_text(encoding="utf-8"))
    }
    keys = sorted(found)
    run = subprocess.run(
        ["node", str(PREVIEW / "katex.cjs"), str(katex)],
        input=json.dumps(keys),
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        check=True,
    )
    made = dict(zip(keys, json.loads(run.stdout)))

    def formula(match):
        result = made[html.unescape(match[2]), match[1] == "display"]
        failed = f'<span class="tex-error" title="{html.escape(result.get("error", ""))}">{match[2]}</span>'
        return result.get("html", failed)

    for path in paths:
        page = FORMULA.sub(formula, path.read_text(encoding="utf-8"))
        page = re.sub(
            r'<(script|link)[^>]*(?:src|href)="https?://[^"]*katex[^"]*"[^>]*>(?:</script>)?',
            "",
            page,
        )  # Quarto's, from another host
        style = f'<link rel="stylesheet" href="{"../" * (len(path.relative_to(folder).parts) - 1)}katex/katex.min.css">'
        path.write_text(
            page if style in page else page.replace("</head>", style + "\n</head>"),
            encoding="utf-8",
        )
    target = Path(folder) / "katex"
    shutil.copytree(
        katex / "fonts",
        target / "fonts",
        ignore=shutil.ignore_patterns("*.ttf", "*.woff"),
        dirs_exist_ok=True,
    )
    style = re.sub(
        r",url\([^)]+\.(?:woff|ttf)\) format\([^)]+\)",
        "",
        (katex / "katex.min.css").read_text(encoding="utf-8"),
    )
    (target / "katex.min.css").write_text(style, encoding="utf-8")
