"""Checks of a built site and of the notebooks behind it; each finding is one sentence that names the page and the defect.

check_sources(nbs, quarto_yml)   what only the notebooks show: navigation, prose that nbdev drops, lists that pandoc does not see
check_site(folder)               what the HTML shows: links, anchors, raw Markdown, formulas, errors, other hosts, alt texts, weight
check_browser(folder)            what only a browser shows: console errors, requests, what is cut off, contrast in light and dark
check_visible(shares)            how much of the exported code a reader sees
long_lines(nbs)                  lines of code or of saved output that are too long for a page
"""

import json
import os
import re
import shutil
from collections import Counter
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

import yaml

LIMIT_BYTES = 3_000_000
SEARCH_BYTES = 1_000_000
WIDTHS = {"code": 100, "output": 88}  # columns of a line; the site wraps what is longer
# The share of the exported lines that a reader must see, by section of the sidebar.
VISIBLE = {"Foundations": 0.9, "Models": 0.9, "Measurement": 0.9}
SMALLEST = 10  # pixels of a formula's letters
SWALLOWED = 120  # letters; a longer heading has taken in the paragraph below it
GENERATED = {"api.qmd"}  # pages that have no notebook
HOST = re.compile(r"(?:https?|wss?):|//")
VOID = set("area base br col embed hr img input link meta param source track wbr".split())
CODE, SKIP = (
    {"code", "pre", "textarea"},
    {"script", "style", "math", "svg", "title"},
)  # not prose; not even words
LOADS = re.compile(
    r"""(?:\b(?:fetch|import|importScripts|WebSocket|EventSource|Worker)\s*\(?|\.src\s*=)\s*["'`]((?:https?:|wss?:)?//[^"'`]+)"""
)
URLS = re.compile(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""")
RAW = re.compile(r"\]\(|\]\{|\{=\w+\}|`|#{2,6} \w|^\s*# \w|^#\||(?<!\w)\*\*\w")
TEX = re.compile(r"\$\$|\$(?!\d)|\\(?:[A-Za-z]{2,}\b|[()\[\]]\s)")


def text(value):
    return value if isinstance(value, str) else "".join(value or [])


def short(words, n=60):
    words = " ".join(words.split())
    return words if len(words) <= n else words[:n] + "..."


class Page(HTMLParser):
    "What the checks, the table of contents and the search need to know about one HTML page."

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.ids, self.links, self.loads, self.found = Counter(), [], [], []
        self.stack, self.main = [], False
        self.heading = self.symbol = (
            None  # the words of the heading, and of the link to a symbol, that are being read
        )
        self.symbols, self.code = (
            [],
            [],
        )  # the links to symbols: their words; what stands in code blocks
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, pairs):
        attrs = {k: v or "" for k, v in pairs}
        classes = set(attrs.get("class", "").split())
        self.ids.update(filter(None, {attrs.get("id"), attrs.get("name") if tag == "a" else None}))
        if tag == "a" and "href" in attrs:
            self.links.append(attrs["href"])
        if tag == "link" and set(attrs.get("rel", "").split()) & {
            "stylesheet",
            "icon",
            "preload",
            "modulepreload",
            "manifest",
        }:
            self.loads.append(attrs.get("href", ""))
        if tag in {
            "img",
            "script",
            "iframe",
            "video",
            "audio",
            "source",
            "track",
            "embed",
            "input",
        } and attrs.get("src"):
            self.loads.append(attrs["src"])
        self.loads += [
            part.split()[0] for part in attrs.get("srcset", "").split(",") if part.strip()
        ]
        self.loads += filter(
            None, [attrs.get("poster"), attrs.get("data") if tag == "object" else None]
        )
        self.loads += [a or b for a, b in URLS.findall(attrs.get("style", ""))]
        decoration = attrs.get("aria-hidden") == "true" or attrs.get("role") == "presentation"
        if tag == "img" and not attrs.get("alt", "").strip() and not decoration:
            self.found.append(f"image {short(attrs.get('src', ''))} has no alternative text")
        if classes & {"tex-error", "katex-error"}:
            self.found.append(f"formula cannot be rendered: {attrs.get('title', '')}")
        if "cell-output-error" in classes:
            self.found.append("a saved error is shown")
        if tag == "main":
            self.main = True
        if tag in {"h2", "h3"} and self.main:
            self.heading = ""
        if tag == "a" and "symbol" in classes:
            self.symbol = ""
        if tag not in VOID:
            inherited = self.stack[-1][1] if self.stack else ""
            skip = tag in SKIP or classes & {"katex", "tex-error"}
            kind = (
                "tex"
                if tag == "span" and "math" in classes
                else "skip"
                if skip
                else "code"
                if tag in CODE
                else inherited
            )
            self.stack.append((tag, kind))

    def handle_endtag(self, tag):
        while any(open_ == tag for open_, _ in self.stack):
            if self.stack.pop()[0] == tag:
                break
        self.main &= tag != "main"
        self.code += ["\n"] if tag == "pre" else []
        if tag in {"h2", "h3"} and self.heading is not None:
            if len(self.heading) > SWALLOWED:
                self.found.append(f"a heading swallows its paragraph: {short(self.heading)}")
            self.heading = None
        if tag == "a" and self.symbol is not None:
            self.symbols.append(self.symbol.removesuffix("()"))
            self.symbol = None

    def handle_data(self, data):
        tag, kind = self.stack[-1] if self.stack else ("", "")
        if tag in {"script", "style"}:
            self.loads += (
                LOADS.findall(data) if tag == "script" else [a or b for a, b in URLS.findall(data)]
            )
        if tag != "script" and "Traceback (most recent call last)" in data:
            self.found.append("a saved error is shown")
        if kind == "tex":
            self.found.append(f"formula cannot be rendered: {short(data)}")
        if kind == "":
            self.prose(data)
        if kind == "code" and any(open_ == "pre" for open_, _ in self.stack):
            self.code.append(data)
        elif kind == "code" and data.startswith("{="):  # a block of HTML that lost its lines
            self.found.append(f"raw Markdown is in sight: {short(data)}")
        self.heading = self.heading if self.heading is None else self.heading + data
        self.symbol = self.symbol if self.symbol is None else self.symbol + data

    def prose(self, data):
        if "?@" in data:
            self.found.append(f"unknown cross-reference {short(data[data.index('?@') + 1 :], 30)}")
        if re.search(r"^\s*:::|:::\s*\{", data, re.M):
            self.found.append(f"malformed div: {short(data[data.index(':::') :])}")
        if self.main and (match := RAW.search(data)):
            self.found.append(
                f"raw Markdown is in sight: {short(data[max(0, match.start() - 20) :])}"
            )
        if match := TEX.search(data):
            self.found.append(
                f"TeX outside of a formula, or unbalanced dollars: {short(data[max(0, match.start() - 10) :])}"
            )


def resolved(url, page, folder):
    "The file that a relative URL on a page means."
    url = unquote(re.split("[?#]", url)[0])
    return (folder / url.lstrip("/") if url.startswith("/") else page.parent / url).resolve()


def local_files(urls, page, folder):
    """The files of the site that a page's URLs name, and the sentences about those that do not
    exist."""
    files, lost = set(), []
    for url in {
        re.split("[#?]", u)[0]
        for u in urls
        if u and not HOST.match(u) and not re.match(r"data:|blob:|about:|#", u)
    }:
        target = resolved(url, page, folder)
        files.add(target) if target.is_file() else lost.append(f"loads {url}, which does not exist")
    return files, lost


def check_links(links, page, folder, anchors, site_url):
    for url in dict.fromkeys(links):
        if site_url and url.startswith(site_url):
            yield f"link to {url} names this site's own address; a relative link works everywhere"
            url = os.path.relpath(folder / url[len(site_url) :].lstrip("/"), page.parent)
        if re.match(r"[a-z][a-z0-9+.-]*:|//", url) or url in {"", "#", "#top"}:
            continue
        path, _, anchor = url.partition("#")
        target = resolved(path, page, folder) if path else page.resolve()
        target = target / "index.html" if target.is_dir() else target
        if not target.is_file():
            yield f"link to {url} leads nowhere"
        elif anchor and target in anchors and unquote(anchor) not in anchors[target]:
            yield f"link to {url}: no such anchor on that page"


def check_site(folder, site_url="", unclear=frozenset()):
    """Sentences about the defects of every page of a built site.

    Links that start with `site_url` count as internal; a name in `unclear` is no symbol's alone, so no word of prose may lead to one."""
    folder = Path(folder).resolve()
    pages = {path: Page(path) for path in sorted(folder.rglob("*.html"))}
    anchors = {path: set(page.ids) for path, page in pages.items()}
    problems = [] if pages else [f"{folder.name}: no page was built"]
    for path, page in pages.items():
        found = list(page.found)
        found += check_links(page.links, path, folder, anchors, site_url)
        found += [f"asks another host for {short(url)}" for url in page.loads if HOST.match(url)]
        found += [f"the id {name} stands there {n} times" for name, n in page.ids.items() if n > 1]
        found += [
            f"the word {name} leads to a symbol, and is also the name of a method or command"
            for name in page.symbols
            if name in unclear
        ]
        files, lost = local_files(page.loads, path, folder)
        weight = path.stat().st_size + sum(f.stat().st_size for f in files)
        if weight > LIMIT_BYTES:
            found.append(f"weighs {weight / 1e6:.1f} MB; the limit is {LIMIT_BYTES / 1e6:.0f} MB")
        problems += [
            f"{path.relative_to(folder)}: {sentence}." for sentence in dict.fromkeys(found + lost)
        ]
    search = folder / "search.json"
    if search.exists() and search.stat().st_size > SEARCH_BYTES:
        weight = f"{search.stat().st_size / 1e6:.1f} MB; the limit is {SEARCH_BYTES / 1e6:.0f} MB"
        problems.append(f"search.json: weighs {weight}.")
    for path in sorted(folder.rglob("*.css")):
        urls = [a or b for a, b in URLS.findall(path.read_text(encoding="utf-8"))]
        lost = [
            f"asks another host for {short(url)}" for url in urls if HOST.match(url)
        ] + local_files(urls, path, folder)[1]
        problems += [f"{path.relative_to(folder)}: {sentence}." for sentence in dict.fromkeys(lost)]
    return problems


def hrefs(entries):
    "Every page named in a sidebar's or navbar's entries, in reading order."
    for entry in entries or []:
        if isinstance(entry, str):
            yield entry
        else:
            yield from [entry["href"]] if "href" in entry else []
            yield from hrefs(entry.get("contents") or entry.get("menu"))


def navigation(quarto_yml):
    "The sidebar's and the navbar's entries of a _quarto.yml."
    website = yaml.safe_load(Path(quarto_yml).read_text(encoding="utf-8"))["website"]
    navbar = website.get("navbar", {})
    return website.get("sidebar", {}).get("contents", []), navbar.get("left", []) + navbar.get(
        "right", []
    )


def check_sources(nbs, quarto_yml):
    "Sentences about what only the notebooks and the navigation show."
    nbs = Path(nbs)
    sidebar, navbar = navigation(quarto_yml)
    found = [p.relative_to(nbs) for p in nbs.rglob("*.ipynb")]
    chapters = {
        p.as_posix() for p in found if not any(part.startswith((".", "_")) for part in p.parts)
    }
    listed = list(hrefs(sidebar))
    for href in dict.fromkeys(listed + [h for h in hrefs(navbar) if not HOST.match(h)]):
        if href not in GENERATED and not (nbs / href).is_file():
            yield f"_quarto.yml: the navigation names {href}, which does not exist."
    yield from (
        f"{name}: is not in the sidebar of _quarto.yml." for name in sorted(chapters - set(listed))
    )
    for name in sorted(chapters):
        cells = json.loads((nbs / name).read_text(encoding="utf-8"))["cells"]
        prose = [text(c["source"]) for c in cells if c["cell_type"] == "markdown"]
        yield from (
            f"{name}: {sentence}." for sentence in [*check_title(prose), *check_blocks(prose)]
        )
        errors = [o for c in cells for o in c.get("outputs", []) if o["output_type"] == "error"]
        yield from (
            f"{name}: the saved output holds an error: {short(o['ename'] + ': ' + o['evalue'])}."
            for o in errors
        )


def long_lines(nbs):
    """Sentences about the cells whose code or saved text output has lines that are too long for
    the site, which would wrap them. Of a picture, HTML or Markdown the site shows no plain text."""
    for path in sorted(Path(nbs).rglob("*.ipynb")):
        name = path.relative_to(nbs)
        if any(part.startswith((".", "_")) for part in name.parts):
            continue
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] != "code":
                continue
            shown = [o for o in cell["outputs"] if set(o.get("data", {})) <= {"text/plain"}]
            words = [text(o.get("text") or o.get("data", {}).get("text/plain")) for o in shown]
            for kind, found in (("code", [text(cell["source"])]), ("output", words)):
                lines = "\n".join(found).splitlines()
                longest = max((len(line) for line in lines if line[:2] != "#|"), default=0)
                if longest > WIDTHS[kind]:
                    yield (
                        f"{name.as_posix()}, cell {cell['id']}: a line of {kind} has {longest}"
                        f" columns, and {WIDTHS[kind]} fit."
                    )


def visible(nbs, quarto_yml, folder, pages):
    """How many exported lines stand in sight, or folded, on the pages of each section of the sidebar: {section: (seen, all)}.

    It is measured on the built pages, so it also finds a page whose code was lost or mangled."""
    shares = {}
    for entry in navigation(quarto_yml)[0]:
        chapters = hrefs(entry["contents"]) if "section" in dict.fromkeys(entry) else []
        seen = total = 0
        for name in chapters:
            if name not in pages:
                continue
            shown = "".join(Page(folder / pages[name]["out"]).code).splitlines()
            shown = {line.strip() for line in shown}
            for cell in json.loads((nbs / name).read_text(encoding="utf-8"))["cells"]:
                if re.match(r"(?:#\|.*\n)*#\|\s*exports?\b", text(cell["source"])):
                    lines = [line.strip() for line in text(cell["source"]).splitlines()]
                    lines = [line for line in lines if line and not line.startswith("#|")]
                    total += len(lines)
                    seen += sum(line in shown for line in lines)
        if total:
            shares[entry["section"]] = seen, total
    return shares


def check_visible(shares):
    "Sentences about the sections that show less of their exported code than they must."
    return [
        f"{section}: {seen / total:.0%} of the exported lines are on its pages; at least {VISIBLE[section]:.0%} must be."
        for section, (seen, total) in shares.items()
        if seen / total < VISIBLE.get(section, 0)
    ]


def check_title(prose):
    """nbdev turns the first cell with a top heading into the page's title and drops everything
    else in it."""
    title = next((cell for cell in prose if re.search(r"^#\s+\S", cell, re.M)), None)
    if title is None:
        yield "has no title cell (`# Title`)"
        return
    summaries = 0
    for line in title.splitlines():
        summaries += line.startswith("> ")
        kept = re.match(r"#\s+\S|-\s+\S.*:.*\S|\s*$", line) or (
            line.startswith("> ") and summaries == 1
        )
        if not kept:
            yield f"prose in the title cell is dropped from the site: {short(line)}"


def check_blocks(prose):
    """Jupyter starts a list, heading or quote in the middle of a paragraph; pandoc wants an
    empty line before it."""
    block = re.compile(r"(?:[-*+] |\d+[.)] |#{1,6} |> )")
    for cell in prose:
        fence, before = False, ""
        for line in cell.splitlines():
            fence ^= line.lstrip().startswith(("```", "$$")) and line.count("$$") != 2
            paragraph = (
                before.strip()
                and not before.startswith((" ", "$$", "```", ":::", "<"))
                and not block.match(before)
            )
            if not fence and block.match(line) and paragraph:
                yield f"needs an empty line before: {short(line)}"
            before = line


def find_chromium():
    "The path of a Chromium that is installed, or None."
    return next(
        filter(
            None,
            map(
                shutil.which, ["/usr/bin/chromium", "chromium", "chromium-browser", "google-chrome"]
            ),
        ),
        None,
    )


@contextmanager
def served(folder):
    "The folder at an address on this machine, for pages that do not work from file://."

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


# What must fit a phone; of a formula by KaTeX, not its hidden twin for screen readers.
WIDE = ".katex-display, math[display=block]:not(.katex math), main table, main img"
PHONE, PHONE_390, DESKTOP = (
    {"width": 360, "height": 740},
    {"width": 390, "height": 844},
    {"width": 1400, "height": 900},
)


def html(folder):
    """The names of the pages of a folder, in order."""
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.html"))


def check_browser(folder, chromium, base=None, axe=None, pages=None):
    """Sentences about what happens when a browser opens the pages of `folder` (default: every one)
    from `base` (default: file://)."""
    from playwright.sync_api import sync_playwright

    folder = Path(folder).resolve()
    base = base or folder.as_uri()
    flags = (
        "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync"
    )
    problems = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=flags.split())
        tab = browser.new_page(viewport=DESKTOP)
        tab.set_default_timeout(120_000)  # a loaded machine is no finding
        seen = []

        def listen(message):
            if message.type == "error":
                seen.append(f"the console says: {short(message.text, 200)}")

        def admit(route):
            if route.request.url.startswith((base, "data:", "blob:")):
                route.continue_()
            else:
                seen.append(f"asks for {short(route.request.url)}")
                route.abort()

        tab.on("console", listen)
        tab.on("pageerror", lambda e: seen.append(f"a script fails: {short(str(e), 200)}"))
        tab.route("**/*", admit)
        for name in html(folder) if pages is None else pages:
            seen.clear()
            tab.emulate_media(color_scheme="light")
            tab.set_viewport_size(DESKTOP)
            tab.goto(f"{base}/{name}", wait_until="load")
            seen += move_sliders(tab)
            seen += cut_off(tab, "main pre", DESKTOP)
            tab.set_viewport_size(PHONE_390)
            seen += cut_off(tab, WIDE, PHONE_390)
            tab.set_viewport_size(PHONE)
            wide = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            if wide > 0:
                seen.append(f"is {wide} pixels too wide for a phone of {PHONE['width']} pixels")
            if axe:
                seen += run_axe(tab, axe)
            problems += [f"{name}: {sentence}." for sentence in dict.fromkeys(seen)]
        browser.close()
    return problems


def cut_off(tab, selector, size):
    """Sentences about the elements that reach beyond a box that cuts or scrolls them, or beyond
    the text; what is folded is opened before."""
    found = tab.evaluate(
        """(selector) => {
        document.querySelectorAll("details").forEach((fold) => { fold.open = true; });
        const right = (element) => {  // where its contents end; of a formula, without its twin for screen readers
            const parts = element.querySelectorAll(element.localName === "math" ? "*" : ".katex-html > .base"), range = document.createRange();
            range.selectNodeContents(element);
            const boxes = element.localName === "img" ? [element.getBoundingClientRect()]
                : parts.length ? [...parts].map((part) => part.getBoundingClientRect()) : [...range.getClientRects()];
            return Math.max(...boxes.map((box) => box.right));
        };
        const limit = (element) => {  // the right edge of the innermost box that cuts, or of the text
            let edge = Infinity;
            for (let box = element.localName === "img" ? element.parentElement : element; box; box = box.parentElement) {
                const main = box.localName === "main", style = getComputedStyle(box);
                if (main || (style.overflowX !== "visible" && style.display !== "inline"))
                    edge = Math.min(edge, box.getBoundingClientRect().left + box.clientLeft + box.clientWidth);
                if (main) break;
            }
            return edge;
        };
        return [...document.querySelectorAll(selector)].filter((element) => element.getClientRects().length)
            .map((element) => [Math.round(right(element) - limit(element)), element.localName,
                (element.querySelector("annotation") || element).textContent || element.getAttribute("src")])
            .filter(([over]) => over > 1);
    }""",
        selector,
    )
    kinds = {"pre": "a code block or output", "table": "a table", "img": "a picture"}
    small = tab.evaluate(
        """(smallest) => [...document.querySelectorAll(".katex-display")]
        .filter((box) => box.querySelector(".katex-html").getClientRects().length && parseFloat(getComputedStyle(box).fontSize) < smallest)
        .map((box) => [Math.round(parseFloat(getComputedStyle(box).fontSize)), box.querySelector("annotation").textContent])""",
        SMALLEST,
    )
    return [
        f"{kinds.get(tag, 'a formula')} is {over} pixels too wide at {size['width']}: {short(words)}"
        for over, tag, words in found
    ] + [
        f"a formula fits at {size['width']} only in {px} pixels, and {SMALLEST} can be read: {short(words)}"
        for px, words in small
    ]


def move_sliders(tab):
    "Every explorer of the open page, whose first slider does not change its picture."
    return tab.evaluate("""async () => {
        const changed = async (test) => {
            for (const end = performance.now() + 5000; performance.now() < end; await new Promise(requestAnimationFrame)) if (test()) return true;
        };
        const stuck = [];
        for (const place of document.querySelectorAll('.vaenb-explorer')) {
            const find = (what) => place.querySelector('.vaenb-explorer-view')?.shadowRoot.querySelector(what);
            if (!await changed(() => find('canvas')?.width > 1 && find('input[type=range]'))) { stuck.push('an explorer does not start'); continue; }
            const picture = find('canvas'), slider = find('input[type=range]'), before = picture.toDataURL();
            slider.value = Number(slider.value) > 0 ? slider.min : slider.max;
            slider.dispatchEvent(new Event('input', {bubbles: true}));
            if (!await changed(() => picture.toDataURL() !== before)) stuck.push('moving the first slider of an explorer does not change its picture');
        }
        return stuck;
    }""")


def run_axe(tab, axe):
    """axe-core's findings about contrast, labels and structure of the open page, in light and in dark.

    It takes its time for each element, so formulas and all but the first code blocks are taken off the page before."""
    tab.evaluate("""document.querySelectorAll('.katex').forEach((e) => e.replaceWith('x'));
                    document.querySelectorAll('.sourceCode').forEach((e, i) => i > 8 && e.remove())""")
    tab.evaluate(Path(axe).read_text(encoding="utf-8"))
    for scheme, rules in (("light", ["wcag2a", "wcag2aa"]), ("dark", ["color-contrast"])):
        tab.emulate_media(color_scheme=scheme)
        tab.wait_for_timeout(150)  # Quarto changes its style sheets by script
        tab.wait_for_function(
            "[...document.querySelectorAll('link[rel=stylesheet]')].every((link) => link.sheet)"
        )
        found = tab.evaluate(
            "(rules) => axe.run({runOnly: rules, resultTypes: ['violations'], preload: false})",
            rules,
        )
        yield from (
            f"accessibility ({scheme}): {v['help']} at {short(v['nodes'][0]['html'], 80)}"
            for v in found["violations"]
        )
