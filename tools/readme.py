"""Render nbs/index.ipynb to README.md, and its figures to nbs/images/, so that they never disagree.

python tools/readme.py            # write README.md and, from translations/zh/index.md, README.zh.md
python tools/readme.py --check    # write nothing; exit 1 when one of them is out of step
"""

import argparse
import base64
import json
import re
import sys
from configparser import ConfigParser
from pathlib import Path

import translation

ROOT = Path(__file__).resolve().parent.parent
NOTICE = (
    "<!-- Rendered from nbs/index.ipynb by tools/readme.py: edit the notebook, then run "
    "`make readme`. -->"
)
CHINESE = "README.zh.md"
NOTICE_CHINESE = (
    "<!-- Rendered from nbs/index.ipynb and translations/zh/index.md by tools/readme.py: edit "
    "these, then run `make readme`. -->"
)
HOSTED = (  # name, badge and page of each place that runs the notebooks without an installation
    (
        "Open in Colab",
        "https://colab.research.google.com/assets/colab-badge.svg",
        "https://colab.research.google.com/github/{user}/{repo}/blob/{branch}/nbs/index.ipynb",
    ),
    (
        "Open in Binder",
        "https://mybinder.org/badge_logo.svg",
        "https://mybinder.org/v2/gh/{user}/{repo}/{branch}?urlpath=lab/tree/nbs/index.ipynb",
    ),
)
LINK = re.compile(r"(\]\()([^)\s]+)")
IMAGE = re.compile(r"""(<img\b[^>]*?\bsrc=["'])([^"']+)""")
ELSEWHERE = re.compile(
    r"[a-z][a-z0-9+.-]*:|#|/"
)  # other hosts, anchors of this page, absolute paths
DIRECTIVE = re.compile(r"^#\|\s*(\S+?):?(?:\s+(.*?))?\s*$")


def text(value):
    "A notebook's multi-line string, which the format keeps as a string or as a list of lines."
    return value if isinstance(value, str) else "".join(value or [])


def relocate(markdown, folder):
    """The Markdown with its relative links and images pointing from the repository's root; code
    stays as it is."""

    def move(match):
        before, target = match.groups()
        return before + (
            target if ELSEWHERE.match(target) else f"{folder}/{target}".replace("/./", "/")
        )

    parts = re.split(r"(^```.*?^```)", markdown, flags=re.M | re.S)
    return "".join(p if i % 2 else IMAGE.sub(move, LINK.sub(move, p)) for i, p in enumerate(parts))


def fenced(body, language=""):
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", body)), default=0))
    return f"{fence}{language}\n{body.rstrip()}\n{fence}"


def outputs(cell, folder, alt, pictures):
    "What a cell printed or returned, as Markdown; figures are added to `pictures` and linked."
    printed = ""
    for out in cell.get("outputs", []):
        data = out.get("data", {})
        if out["output_type"] == "stream" and out["name"] == "stdout":
            printed += text(out["text"])
        elif "text/markdown" in data:
            yield relocate(text(data["text/markdown"]), folder)
        elif "image/png" in data:
            name = f"images/index-{len(pictures) + 1}.png"
            pictures[name] = base64.b64decode(text(data["image/png"]))
            yield f"![{alt}]({folder}/{name})"
        elif "text/plain" in data and not any(kind.startswith("image/") for kind in data):
            printed += text(data["text/plain"]) + "\n"
    if printed.strip():
        yield fenced(printed, "text")


def code(cell, folder, pictures):
    "A code cell's visible source and outputs, as Markdown blocks."
    lines = text(cell["source"]).splitlines()
    options = dict(m.groups() for line in lines if (m := DIRECTIVE.match(line)))
    if {"hide", "export", "exporti", "default_exp"} & options.keys() or options.get(
        "include"
    ) == "false":
        return
    source = "\n".join(line for line in lines if not DIRECTIVE.match(line)).strip()
    if source and options.get("echo") != "false":
        yield fenced(source, "python")
    if options.get("output") != "false":
        alt = (options.get("fig-alt") or "").strip("\"'")
        yield from outputs(cell, folder, alt, pictures)


def render(notebook, folder="nbs", words=None, switch=""):
    """README.md's text for a notebook that lies in `folder`, and its pictures by name; with
    `words`, in their language as far as they go. `switch` holds the badges and
    the link to the other language."""
    blocks, pictures = [NOTICE if words is None else NOTICE_CHINESE, switch], {}
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    for cell in cells if words is None else translation.in_place(cells, words):
        if cell["cell_type"] == "markdown":
            blocks.append(relocate(text(cell["source"]).strip(), folder))
        elif cell["cell_type"] == "code":
            blocks += code(cell, folder, pictures)
    return "\n\n".join(filter(None, blocks)) + "\n", pictures


def badges(root):
    """Links to places that run the notebooks, as Markdown; settings.ini names the repository."""
    settings = ConfigParser(delimiters=["="])
    settings.read(root / "settings.ini", encoding="utf-8")
    cfg = settings["DEFAULT"]
    places = {name: cfg[name] for name in ("user", "repo", "branch")}
    return " ".join(
        f"[![{name}]({image})]({page.format(**places)})" for name, image, page in HOSTED
    )


def main(argv=None, root=ROOT):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when README.md is out of step"
    )
    args = parser.parse_args(argv)
    notebook, readme = root / "nbs" / "index.ipynb", root / "README.md"
    if not notebook.exists():
        sys.exit("README.md is rendered from nbs/index.ipynb, which does not exist.")
    words = translation.usable(root).get("index.ipynb")
    shown = badges(root)
    switch = f"[中文]({CHINESE}) {shown}" if words else shown
    rendered, pictures = render(notebook, switch=switch)
    translated = {}
    if words:
        chinese, _ = render(notebook, words=words, switch=f"[English]({readme.name}) {shown}")
        translated[root / CHINESE] = chinese.encode()
    wanted = {
        readme: rendered.encode(),
        **translated,
        **{root / "nbs" / name: png for name, png in pictures.items()},
    }
    stale = [
        path
        for path, content in wanted.items()
        if not path.exists() or path.read_bytes() != content
    ]
    if args.check and stale:
        sys.exit(
            f"{', '.join(p.name for p in stale)} does not match nbs/index.ipynb: run "
            "`make readme` and commit the result."
        )
    for path in [] if args.check else stale:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(wanted[path])


if __name__ == "__main__":
    main()
