"""Pages as Quarto makes them, without Quarto: what the checks of `make docs` look at where it is not installed.

markdown(cells, ...)         the Markdown that Quarto writes for the cells of a processed notebook
render(book, out)            every page, with Quarto's elements and classes, through pandoc
typeset(folder, katex)       the formulas of all pages by KaTeX, in one run of node; after Quarto too

Everything that a reader's page has besides (search, the theme's style, the menu on phones) is Quarto's alone.
"""

import html
import json
import os
import re
import shutil
import subprocess
from base64 import b64decode
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

import translation
import yaml
from sitecheck import HOST, hrefs, navigation, text

PREVIEW = Path(__file__).resolve().parent / "preview"
FORMULA = re.compile(r'<span\s+class="math (inline|display)">(.*?)</span>', re.S)
FAR = re.compile(r'<(script|link)[^>]*(?:src|href)="https?://[^"]*katex[^"]*"[^>]*>(?:</script>)?')


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
    unclear: frozenset = frozenset()  # names that are no symbol's alone
    translated: dict = field(default_factory=dict)  # the notebooks that have a Chinese edition
    known: dict = field(default_factory=dict)  # the words of the navigation: {English: Chinese}


# ---- cells -> Markdown, as Quarto reads a notebook -----------------------------------------------


def lines(source):
    """The lines of a cell as Quarto takes them: a list as it is; a string is split, and its
    newlines are lost."""
    return source.splitlines() if isinstance(source, str) else source


def options(source):
    "A cell's `#| key: value` lines as a dictionary, and the lines below them."
    given = [line for line in source if line.startswith("#|")]
    pairs = [re.match(r"#\|\s*([\w-]+):[ \t]*(.*?)\s*$", line) for line in given]
    values = {m[1]: str(yaml.safe_load(m[2])) if m[2][:1] in "'\"" else m[2] for m in pairs if m}
    return values, [line for line in source if not line.startswith("#|")]


def block(body, kind="", attributes=""):
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", body)), default=0))
    code = f"{fence}{attributes}\n{body.rstrip()}\n{fence}"
    return f"::: {{{kind}}}\n{code}\n:::" if kind else code


def raw(markup):
    return f"```{{=html}}\n{markup}\n```"


def output(out, opts, picture):
    "One saved output as Markdown."
    data, kind = out.get("data", {}), f".cell-output .cell-output-{out.get('name', 'display')}"
    if out["output_type"] == "stream":
        return block(text(out["text"]), kind)
    if out["output_type"] == "error":
        return block(f"{out['ename']}: {out['evalue']}", ".cell-output .cell-output-error")
    if image := next((k for k in ("image/svg+xml", "image/png", "image/jpeg") if k in data), None):
        label = f"#{opts['label']} " if opts.get("label", "").startswith("fig-") else ""
        alt = html.escape(opts.get("fig-alt", ""), quote=True)
        words = f'![{opts.get("fig-cap", "")}]({picture(image, text(data[image]))}){{{label}alt="{alt}"}}'
    elif "text/markdown" in data or "text/latex" in data:
        words = text(data.get("text/markdown") or data["text/latex"])
    else:
        return block(text(data["text/plain"]), kind) if "text/plain" in data else ""
    return words if opts.get("output") == "asis" else f"::: {{{kind}}}\n{words}\n:::"


def code_cell(cell, picture):
    "A code cell's visible source and outputs as Markdown."
    opts, source = options(lines(cell["source"]))
    if opts.get("include") == "false":
        return ""
    parts = []
    if "".join(source).strip() and opts.get("echo") != "false":
        shown = block("".join(source).strip("\n"), attributes="{.python .cell-code}")
        if (fold := opts.get("code-fold", "false")) != "false":
            summary = html.escape(opts.get("code-summary", "Code"))
            head = f'<details class="code-fold"{" open" * (fold == "show")}><summary>{summary}</summary>'
            shown = f"{raw(head)}\n\n{shown}\n\n{raw('</details>')}"
        parts.append(shown)
    if opts.get("output") != "false":
        parts += filter(None, (output(out, opts, picture) for out in cell.get("outputs", [])))
    body = "\n\n".join(parts)
    return f"::: {{.cell}}\n{body}\n:::" if parts and opts.get("output") != "asis" else body


def markdown(cells, assets, prefix):
    """The cells as pandoc's Markdown; pictures are written into the folder `assets`, which the
    page reaches as `prefix`."""
    count = 0

    def picture(kind, data):
        nonlocal count
        count += 1
        assets.mkdir(parents=True, exist_ok=True)
        name = f"figure-{count}.{kind[6:9]}"
        (assets / name).write_bytes(data.encode() if kind.endswith("xml") else b64decode(data))
        return f"{prefix}/{name}"

    return "\n\n".join(
        code_cell(c, picture) if c["cell_type"] == "code" else "".join(lines(c["source"]))
        for c in cells
        if c["cell_type"] != "raw"
    )


def cross_references(words, known=None):
    """Number labelled equations and figures; returns the Markdown and what each label is called,
    in Chinese as far as the kinds are `known`."""
    names, known = {}, known or {}

    def number(kind, label):
        kind = known.get(kind, kind)
        names[label] = f"{kind} {1 + sum(label[:3] == known[:3] for known in names)}"
        return names[label]

    def equation(match):
        which = number("Equation", match[2]).split()[1]
        return f"::: {{#{match[2]} .equation}}\n{match[1]}\n\n[({which})]{{.number}}\n:::"

    def figure(match):
        return f"![{number('Figure', match[3])}: {match[1]}]({match[2]}){{#{match[3]}"

    words = re.sub(r"(\$\$(?:(?!\$\$).)+\$\$)[ \t]*\{#(eq-[\w-]+)\}", equation, words, flags=re.S)
    words = re.sub(r"!\[((?:[^\]\n]|\](?!\())*)\]\(([^)\s]+)\)\{#(fig-[\w-]+)", figure, words)
    for kind, name in (("sec", "Section"), ("tbl", "Table")):
        names.update(dict.fromkeys(re.findall(rf"\{{#({kind}-[\w-]+)", words), name))
    return words, names


# ---- Markdown -> pages ---------------------------------------------------------------------------


def pandoc(words, math):
    """An HTML fragment, and pandoc's complaints about divs (formulas that it cannot convert stay
    visible and are found later)."""
    import pypandoc

    command = [pypandoc.get_pandoc_path(), "-f", "markdown", "-t", "html5", "--wrap=none"]
    run = subprocess.run(
        [*command, "--section-divs", f"--{math}"],
        input=words,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    return run.stdout, re.findall(r"\[WARNING\] ((?:Div|.*[Dd]uplicate).*)", run.stderr)


def relink(body, name, book):
    "Links between notebooks as links between pages."
    here = os.path.dirname(name)

    def move(match):
        path, hashed, anchor = html.unescape(match[1]).partition("#")
        found = book.sources.get(os.path.normpath(os.path.join(here, path)))
        if found is None:
            return match[0]
        return (
            f'href="{html.escape(os.path.relpath(found[0]["out"], here or ".") + hashed + anchor)}"'
        )

    return re.sub(r'href="([^"]+)"', move, body)


def render(book, out):
    """Write the pages of a book into `out`; returns sentences. With KaTeX, formulas stay TeX
    until `typeset` renders them."""
    problems = []
    for name, (meta, cells) in book.sources.items():
        target = out / meta["out"]
        target.parent.mkdir(parents=True, exist_ok=True)
        files = target.stem + "_files"
        whole = markdown(cells, target.with_name(files), files)
        words, names = cross_references(whole, book.known if "lang" in meta else {})
        body, complaints = pandoc(words, "katex" if book.katex else "mathml")

        def reference(match, names=names):
            label = match[1]
            return (
                f'<a href="#{label}">{names[label]}</a>'
                if label in names
                else f"<strong>?@{label}</strong>"
            )

        body = re.sub(
            r'<span class="citation" data-cites="((?:fig|eq|tbl|sec)-[\w-]+)">.*?</span>',
            reference,
            body,
        )
        target.write_text(framed(book, name, relink(body, name, book)), encoding="utf-8")
        problems += [f"{meta['out']}: malformed div: {words}" for words in complaints]
    shutil.copy(PREVIEW / "preview.css", out)
    return problems


def framed(book, name, body):
    "A page: the body within the navigation, the page's title and its table of contents."
    pages = {source: meta for source, (meta, _) in book.sources.items()}
    sidebar, navbar = navigation(book.quarto_yml)
    known = book.known if "lang" in pages[name] else {}
    if "lang" in pages[name]:
        sidebar = translation.navigation(sidebar, book.translated, known)
        navbar = translation.navigation(navbar, book.translated, known)
    order = [source for source in dict.fromkeys(hrefs(sidebar)) if source in pages]
    at = order.index(name) if name in order else None
    around = [] if at is None else order[max(0, at - 1) : at] + order[at + 1 : at + 2]
    meta, here = pages[name], (name, pages)
    index = translation.sibling("index.ipynb") if known else "index.ipynb"
    home = pages.get(index, {"out": "index.html"})
    html_format = yaml.safe_load(book.quarto_yml.read_text(encoding="utf-8")).get("format", {})
    after = html_format.get("html", {}).get("include-after-body", [])
    return Template((PREVIEW / "page.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(meta["title"]),
        site=html.escape(book.title),
        description=re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(meta["description"])),
        root="../" * meta["out"].count("/"),
        body=body,
        toc=contents(body, translation.phrase("On this page", known)),
        lang=meta.get("lang", "en"),
        home=os.path.basename(home["out"]),
        sidebar=chapters(sidebar, *here),
        navbar="\n".join(item(entry, *here) for entry in navbar),
        turn="\n".join(item(neighbour, *here) for neighbour in around),
        after="\n".join(part["text"] for part in after),
    )


def item(entry, name, pages):
    """One link of the navigation; a page that does not exist is left out (`check_sources`
    reports it)."""
    entry = {"href": entry} if isinstance(entry, str) else entry
    href, label = entry["href"], entry.get("text")
    if not HOST.match(href) and href not in pages:
        return ""
    here = ' aria-current="page"' if href == name else ""
    if href in pages:
        label = label or pages[href]["title"]
        href = "../" * pages[name]["out"].count("/") + pages[href]["out"]
    return f'<a href="{html.escape(href)}"{here}>{html.escape(label or href)}</a>'


def chapters(entries, name, pages):
    parts = []
    for entry in entries:
        if isinstance(entry, dict) and "section" in entry:
            inside = chapters(entry["contents"], name, pages)
            parts += [f"<li><span>{html.escape(entry['section'])}</span>\n{inside}</li>"] * bool(
                inside
            )
        elif link := item(entry, name, pages):
            parts.append(f"<li>{link}</li>")
    return "<ul>\n" + "\n".join(parts) + "\n</ul>" if parts else ""


def contents(body, title="On this page"):
    "The page's own table of contents."
    found = re.findall(r'<section id="([^"]+)"[^>]*>\s*<h([23])[^>]*>(.*?)</h\2>', body, re.S)
    entries = (
        f'<li class="level{level}"><a href="#{anchor}">{re.sub("</?a[^>]*>", "", words)}</a></li>'
        for anchor, level, words in found
    )
    return f"<h2>{title}</h2>\n<ul>\n" + "\n".join(entries) + "\n</ul>" if found else ""


# ---- formulas ------------------------------------------------------------------------------------


def typeset(folder, katex):
    """Render the formulas of every page in `folder`; a formula that fails is marked, and found
    by the checks. Adds KaTeX's style and fonts."""
    pages = {p: p.read_text(encoding="utf-8") for p in Path(folder).rglob("*.html")}
    found = {
        (html.unescape(tex), kind == "display")
        for page in pages.values()
        for kind, tex in FORMULA.findall(page)
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

    for path, page in pages.items():
        page = FAR.sub("", FORMULA.sub(formula, page))  # Quarto takes KaTeX from another host
        root = "../" * (len(path.relative_to(folder).parts) - 1)
        style = f'<link rel="stylesheet" href="{root}katex/katex.min.css">'
        if style not in page:  # before the book's own style, which refines it
            page = re.sub(r'(?=<link[^>]*styles\.css")|(?=</head>)', style + "\n", page, count=1)
        path.write_text(page, encoding="utf-8")
    target = Path(folder) / "katex"
    old = shutil.ignore_patterns("*.ttf", "*.woff")
    shutil.copytree(katex / "fonts", target / "fonts", ignore=old, dirs_exist_ok=True)
    style = (katex / "katex.min.css").read_text(encoding="utf-8")
    style = re.sub(r",url\([^)]+\.(?:woff|ttf)\) format\([^)]+\)", "", style)
    (target / "katex.min.css").write_text(style, encoding="utf-8")
