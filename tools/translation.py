"""The Chinese edition: which cells are translated, and which translations no longer hold.

    python tools/translation.py                        # list what is stale, missing or altered
    python tools/translation.py --draft PAGE ...       # add what PAGE lacks, in English
    python tools/translation.py --accept PAGE CELL ... # the Chinese fits today's English

The first exits with 1 if anything is listed. PAGE is a notebook below nbs/
(stories/82_first_vae.ipynb). The catalogue is one Markdown file a page,
translations/zh/stories/82_first_vae.md. Each entry begins with a line that names the cell, the part
of it where it is not the cell's Markdown (fig-cap, fig-alt, ...), and the hash of the English text
that was translated:

    <!-- cell 533846dc fig-alt 0a1b2c3d4e -->

translations/zh/words.yml holds the words of the navigation. Code and outputs are not translated:
both editions share them. A translation that does not hold is shown in English on the page.
"""

import argparse
import hashlib
import json
import posixpath
import re
import sys
from collections import Counter
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
LANGUAGE = "zh"
ENTRY = re.compile(r"^<!-- cell ([\w-]+)(?: ([a-z-]+))? ([0-9a-f]{10}) -->$", re.M)
PARTS = ("fig-cap", "fig-alt", "tbl-cap", "code-summary")
OPTION = re.compile(rf"^(#\|\s*({'|'.join(PARTS)}):\s*)(.*?)\s*$")
UNTRANSLATED = "0" * 10
FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1[`~]*[ \t]*$", re.M | re.S)
HEADING = re.compile(r"^(#{1,6})[ \t]+(.*?)[ \t]*$", re.M)
LINK = re.compile(r"(\]\()([^)\s]+)")
MATH = re.compile(r"\$\$.+?\$\$|\$(?! )(?:\\.|[^$\\])+?(?<! )\$(?!\d)", re.S)

PUNCTUATED = re.compile(rf"`[^`]*`|({MATH.pattern})([，。；：、！？）]?)", re.S)
SHORT = 16  # letters of TeX; a longer formula may be broken


def text(value):
    return value if isinstance(value, str) else "".join(value or [])


# ---- the English text and the catalogue ----------------------------------------------------------


def pieces(notebook):
    "The English of a notebook that is to be translated: {(cell, part): text}; part '' is Markdown."
    found = {}
    for cell in json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]:
        source = text(cell["source"])
        if cell["cell_type"] == "markdown":
            found[cell["id"], ""] = source.strip()
        elif cell["cell_type"] == "code" and not re.search(r"^#\|\s*hide\b", source, re.M):
            for line in source.splitlines():
                if match := OPTION.match(line):
                    found[cell["id"], match[2]] = str(yaml.safe_load(match[3]))
    return {key: words for key, words in found.items() if words}


def digest(words):
    return hashlib.sha256(words.strip().encode()).hexdigest()[:10]


def read(path):
    "A file of the catalogue: {(cell, part): (hash of the English, Chinese)}."
    parts = ENTRY.split(Path(path).read_text(encoding="utf-8"))
    entries = zip(parts[1::4], parts[2::4], parts[3::4], parts[4::4])
    return {(cell, part or ""): (mark, words.strip()) for cell, part, mark, words in entries}


def write(path, entries):
    blocks = [
        f"<!-- cell {' '.join(filter(None, (*key, mark)))} -->\n{words}\n"
        for key, (mark, words) in entries.items()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(blocks), encoding="utf-8")


def catalogue(root):
    "The translated notebooks, and the file that holds each translation: {'index.ipynb': Path}."
    folder = Path(root) / "translations" / LANGUAGE
    files = sorted(folder.rglob("*.md"))
    return {f.relative_to(folder).with_suffix(".ipynb").as_posix(): f for f in files}


def phrases(root):
    "The words of the navigation: {English: Chinese}."
    path = Path(root) / "translations" / LANGUAGE / "words.yml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}


# ---- does a translation hold? --------------------------------------------------------------------


def kept(words):
    """What a translation keeps, by kind: headings in their order; links, formulas and code in any
    order, the last two as often as it likes. Words inside a formula's \\text{} and comments of
    code may be translated."""
    fences = [m[0] for m in FENCE.finditer(words)]
    words = FENCE.sub("", words)
    links = [target for _, target in LINK.findall(words)]
    links += re.findall(r"""\b(?:href|src)=["']([^"']+)""", words)
    words = LINK.sub(r"\1", words)
    levels = [len(marks) for marks, _ in HEADING.findall(words)]
    code = re.findall(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", words, re.S)
    words = re.sub(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", "", words, flags=re.S)
    formulas = [re.sub(r"\\text\{[^}]*\}|\s+", "", f) for f in MATH.findall(words)]
    words = MATH.sub("", words)
    return {
        "headings": levels,
        "code blocks": Counter(re.sub(r"\s*#.*$", "", block, flags=re.M) for block in fences),
        "formulas": Counter(set(formulas)),
        "names in code": Counter({found for _, found in code}),
        "links": Counter(links),
        "references": Counter(re.findall(r"@(?:fig|eq|tbl|sec)-[\w-]+|\{#[\w-]+", words)),
        "numbers": Counter(re.findall(r"\d+(?:[.,]\d+)*", words)),
    }


def altered(english, chinese):
    "The kinds of things that a translation does not keep. It may write more numbers in digits."
    ours, theirs = kept(english), kept(chinese)
    lost = {kind for kind in ours if ours[kind] != theirs[kind]}
    if not ours["numbers"] - theirs["numbers"]:
        lost.discard("numbers")
    return [kind for kind in ours if kind in lost]


def state(english, entry):
    "None where the translation holds, else what is wrong with it."
    if entry is None:
        return "missing: it has no Chinese text"
    mark, chinese = entry
    if mark != digest(english):
        return "stale: its English text has changed since it was translated"
    if not chinese:
        return "missing: its Chinese text is empty"
    if lost := altered(english, chinese):
        return f"altered: the {' and '.join(lost)} differ from those of the English text"
    return None


def usable(root):
    "The translations that hold: {notebook: {(cell, part): Chinese}}."
    found = {}
    for name, path in catalogue(root).items():
        if (notebook := Path(root) / "nbs" / name).exists():
            entries, english = read(path), pieces(notebook)
            holds = {key for key in english if state(english[key], entries.get(key)) is None}
            found[name] = {key: entries[key][1] for key in english if key in holds}
    return found


def review(root):
    "A sentence for each translation that does not hold, with its page and cell."
    found = []
    for name, path in catalogue(root).items():
        where = path.relative_to(root).as_posix()
        notebook = Path(root) / "nbs" / name
        if not notebook.exists():
            found.append(f"{where}: translates nbs/{name}, which does not exist.")
            continue
        entries, english = read(path), pieces(notebook)
        for key, words in english.items():
            if problem := state(words, entries.get(key)):
                found.append(f"{where}: cell {' '.join(filter(None, key))} is {problem}.")
        for key in entries.keys() - english.keys():
            cell = " ".join(filter(None, key))
            found.append(f"{where}: cell {cell} is gone from nbs/{name}; delete its entry.")
    return found + unknown_words(root)


def unknown_words(root):
    "A sentence for each word of the navigation that words.yml lacks."
    known, navigation = phrases(root), Path(root) / "_quarto.yml"
    if not catalogue(root) or not navigation.exists():
        return []
    website = yaml.safe_load(navigation.read_text(encoding="utf-8"))["website"]

    def words(value):
        if isinstance(value, list):
            return [word for part in value for word in words(part)]
        if not isinstance(value, dict):
            return []
        here = [value[part] for part in ("section", "text") if part in value]
        return here + [word for part in value.values() for word in words(part)]

    return [
        f"translations/{LANGUAGE}/words.yml: has no word for {word}, which stands in _quarto.yml."
        for word in dict.fromkeys(words([website.get("sidebar"), website.get("navbar")]))
        if word not in known
    ]


# ---- a translated page ---------------------------------------------------------------------------


def sibling(name):
    "The Chinese edition's name of a page: 82_first_vae.ipynb -> 82_first_vae.zh.ipynb."
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}.{LANGUAGE}{dot}{suffix}"


def outside_fences(change, words):
    "Apply `change` to what stands between code blocks."
    made, at = [], 0
    for match in FENCE.finditer(words):
        made += [change(words[at : match.start()]), match[0]]
        at = match.end()
    return "".join([*made, change(words[at:])])


def heading_ids(cells):
    """The identifiers that pandoc gives the headings of a page: {cell: [id, ...]}. Headings in
    outputs count, because no two may be alike."""
    taken, found = Counter(), {}
    for cell in cells:
        outputs = [out.get("data", {}).get("text/markdown") for out in cell.get("outputs", [])]
        shown = [text(cell["source"])] if cell["cell_type"] == "markdown" else outputs
        for words in map(text, shown):
            for _, title in HEADING.findall(FENCE.sub("", words)):
                given = re.search(r"\{#([\w-]+)[^}]*\}$", title)
                name = given[1] if given else identifier(title)
                number = f"-{taken[name]}" if taken[name] and not given else ""
                taken[name] += 1
                found.setdefault(cell.get("id"), []).append(name + number)
    return found


def identifier(title):
    "pandoc's identifier of a heading."
    title = re.sub(r"\{[^{}]*\}\s*$", "", title)
    title = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", title)
    title = re.sub(r"[^\w\s.-]", "", title.replace("*", "")).strip().lower()
    return re.sub(r"^[^a-z]+", "", re.sub(r"\s+", "-", title)) or "section"


def with_ids(words, ids):
    "Headings under the given identifiers, so that a link with an anchor works in both editions."
    ids = iter(ids)

    def mark(match):
        name = next(ids, None)
        done = name is None or re.search(r"\{[^}]*#", match[2])
        return match[0] if done else f"{match[1]} {match[2]} {{#{name}}}"

    return outside_fences(lambda part: HEADING.sub(mark, part), words)


def together(words):
    "Short formulas tied to the Chinese punctuation after them, which must not begin a line."

    def tie(match):
        formula, mark = match[1] or "", match[2]
        short = len(formula) <= SHORT and not formula.startswith("$$")
        return f"[{formula}{mark}]{{.together}}" if mark and short else match[0]

    return outside_fences(lambda part: PUNCTUATED.sub(tie, part), words)


def in_english(words):
    "Markdown marked as English, its headings left where the table of contents finds them."
    made = []
    for part in re.split(r"(^#{1,6}[ \t].*$)", words, flags=re.M) if words.strip() else []:
        made.append(part if HEADING.match(part) else part.strip())
    marked = [p if HEADING.match(p) else f":::::: {{lang=en}}\n{p}\n::::::" for p in made if p]
    return "\n\n".join(marked)


def relinked(words, page, translated):
    "Links between translated pages stay in the translation."
    here = Path(page).parent

    def move(match):
        path, hashed, anchor = match[2].partition("#")
        target = posix_normal(here / path) if path else ""
        path = sibling(path) if target in translated else path
        return match[1] + path + hashed + anchor

    return outside_fences(lambda part: LINK.sub(move, part), words)


def posix_normal(path):
    return posixpath.normpath(Path(path).as_posix())


def phrase(words, known):
    "A word of the navigation, or a summary of folded code, in Chinese if it is known."
    match = re.fullmatch(r"(.*), (\d+) lines", words)
    if match and match[1] in known and "lines" in known:
        return f"{known[match[1]]}{known['lines'].format(match[2])}"
    return known.get(words, words)


def translate(name, cells, words, known, translated):
    """The cells of a prepared page in Chinese, as far as `words`, its usable translations, go;
    the rest is marked as English."""
    ids, made = heading_ids(cells), []
    for cell in cells:
        cell, key = dict(cell), cell.get("id")
        source = text(cell["source"])
        if cell["cell_type"] == "markdown" and key is not None:
            chinese = words.get((key, ""))
            marked = with_ids(together(chinese) if chinese else source, ids.get(key, []))
            marked = marked if chinese else in_english(marked)
            cell["source"] = relinked(marked, name, translated)
        elif cell["cell_type"] == "code":
            lines = source.splitlines(keepends=True)
            cell["source"] = "".join(option(line, key, words, known) for line in lines)
            cell["outputs"] = [moved(out, name, translated) for out in cell.get("outputs", [])]
        made.append(cell)
    return made


def in_place(cells, words):
    "A notebook's cells with the translations that there are, and nothing else changed."
    made = []
    for cell in cells:
        source = text(cell["source"])
        if cell["cell_type"] == "markdown":
            source = words.get((cell["id"], ""), source)
        else:
            lines = source.splitlines(keepends=True)
            source = "".join(option(line, cell["id"], words, {}) for line in lines)
        made.append({**cell, "source": source})
    return made


def option(line, cell, words, known):
    match = OPTION.match(line)
    if match is None:
        return line
    english = str(yaml.safe_load(match[3]))
    chinese = words.get((cell, match[2]))
    if chinese is None and match[2] == "code-summary":
        chinese = phrase(english, known)
    return line if chinese is None else f"{match[1]}{json.dumps(chinese, ensure_ascii=False)}\n"


def moved(out, name, translated):
    "An output whose Markdown links to the translated pages."
    data = out.get("data", {})
    if "text/markdown" not in data:
        return out
    shown = relinked(text(data["text/markdown"]), name, translated)
    return {**out, "data": {**data, "text/markdown": shown}}


def navigation(entries, translated, known):
    "A sidebar's or navbar's entries for the Chinese edition."
    made = []
    for entry in entries:
        if isinstance(entry, str):
            made.append(sibling(entry) if entry in translated else entry)
            continue
        entry = dict(entry)
        for part in ("section", "text"):
            if part in entry:
                entry[part] = phrase(entry[part], known)
        if entry.get("href") in translated:
            entry["href"] = sibling(entry["href"])
        if "contents" in entry:
            entry["contents"] = navigation(entry["contents"], translated, known)
        made.append(entry)
    return made


def title(words):
    "Title and summary of a title cell."
    heading = re.search(r"^#[ \t]+(.*?)[ \t]*$", words, re.M)
    summary = re.search(r"^>[ \t]*(.*?)[ \t]*$", words, re.M)
    return heading[1] if heading else "", summary[1] if summary else ""


# ---- the command ---------------------------------------------------------------------------------


def draft(root, name):
    """Bring a page's file into the notebook's order, with what it lacks in English and without
    what is gone."""
    path = Path(root) / "translations" / LANGUAGE / Path(name).with_suffix(".md")
    entries = read(path) if path.exists() else {}
    english = pieces(Path(root) / "nbs" / name)
    write(path, {k: entries.get(k, (UNTRANSLATED, words)) for k, words in english.items()})
    return path


def accept(root, name, cells):
    "Record that the Chinese of these cells (all of them for 'all') fits today's English."
    path = catalogue(root).get(name)
    if path is None:
        sys.exit(f"{name} has no translation: write one with --draft {name}.")
    entries, english = read(path), pieces(Path(root) / "nbs" / name)
    known = {cell for cell, _ in english}
    if unknown := set(cells) - known - {"all"}:
        sys.exit(f"nbs/{name} has no cell {', '.join(sorted(unknown))} with text to translate.")
    for key, (_, words) in entries.items():
        if key in english and ("all" in cells or key[0] in cells):
            entries[key] = digest(english[key]), words
    write(path, entries)


def main(argv=None, root=ROOT):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--draft", nargs="+", metavar="PAGE", help="add what is missing, in English"
    )
    parser.add_argument(
        "--accept", nargs="+", metavar=("PAGE", "CELL"), help="the Chinese of these cells fits"
    )
    args = parser.parse_args(argv)
    for name in args.draft or []:
        print(draft(root, name).relative_to(root))
    if args.accept:
        accept(root, args.accept[0], args.accept[1:])
    found = review(root)
    for sentence in found:
        print(sentence)
    if found:
        sys.exit(
            f"{len(found)} translations do not hold: mend the Chinese, then run "
            "`python tools/translation.py --accept PAGE CELL ...`"
        )
    print(f"Every cell of {len(catalogue(root))} translated pages is translated.")


if __name__ == "__main__":
    main()
