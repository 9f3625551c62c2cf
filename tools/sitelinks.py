"""Links from symbols in backticks to where they are documented.

read_index(package)                nbdev's index of the symbols, completed
symbols(index, package, pages)     what a name in prose may link to: {"VAE": (page, anchor), ...}
link(markdown, page, symbols)      the Markdown with these links, relative to its page

nbdev's own links are switched off: they are absolute, stand inside hand-written links, and take any method name
for the one top-level function of that name (`fit` for the run's, `sample` for the command).
"""

import ast
import os
import re

# Names that a sentence about a Keras model or layer uses for its methods.
KERAS = {"build", "call", "compile", "evaluate", "fit", "predict", "save", "summary"}
ARGUMENTS = {"start"}  # of plots and examples; the function of this name begins a command
KEPT = re.compile(
    r"""
    ^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)[`~]*[ \t]*$   # a fenced block
    | \$\$.*?\$\$                                       # a display equation
    | ^\#{1,6}[ ].*?$                                   # a heading
    | <a\b.*?</a> | <[^<>`]+>                           # HTML
    | \[(?:`[^`]*`|\[[^\[\]]*\]|[^\[\]`])*\](?=[({\[])   # the words of a link
      (?:\([^()\s]*(?:\([^()]*\)[^()\s]*)*(?:\s+"[^"]*")?\))?
    | ``+.*?``+                                         # code that holds backticks
    | (?<!`)`(?P<name>[A-Za-z_][\w.]*)(?P<call>\(\))?`(?!`)
    """,
    re.M | re.S | re.X,
)


def definitions(path):
    "A module's top-level functions and classes: {name: (node, names of its methods)}."
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body if path.exists() else []:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            inside = node.body if isinstance(node, ast.ClassDef) else []
            methods = [m.name for m in inside if isinstance(m, ast.FunctionDef)]
            found[node.name] = (node, methods)
    return found


def indexed(path):
    """The symbols of a module as nbdev's index would hold them: {name: (page and anchor, file)}."""
    notebook = re.search(
        r"File to edit: (?:\.\./)*\w+/(.*)\.ipynb", path.read_text(encoding="utf-8")
    )
    folder, _, name = notebook[1].rpartition("/")
    page = os.path.join(folder, re.sub(r"^\d+[a-zA-Z0-9]*_", "", name.lower()) + ".html")
    module, file = f"{path.parent.name}.{path.stem}", f"{path.parent.name}/{path.name}"
    return {
        f"{module}.{symbol}": (f"{page}#{symbol.lower()}", file)
        for name, (_, methods) in definitions(path).items()
        for symbol in (name, *(f"{name}.{method}" for method in methods))
    }


def read_index(package):
    """nbdev's index of a package, {"syms": {module: {symbol: (page and anchor, file)}}}.

    nbdev 2.4 leaves out the symbols of a notebook that has "auto" in its path (nbdev's issue 1430),
    such as 20_autoencoder.ipynb; these are read from the module."""
    text = (package / "_modidx.py").read_text(encoding="utf-8")
    index = ast.literal_eval(text.partition("d = ")[2])
    for module, names in index["syms"].items():
        names.update({} if names else indexed(package / f"{module.rpartition('.')[2]}.py"))
    return index


def modules(index, package):
    """The definitions of every module of the package: {module: {name: (node, names of its
    methods)}}."""
    files = {module: package / (module.rpartition(".")[2] + ".py") for module in index["syms"]}
    return {module: definitions(path) for module, path in files.items()}


def is_command(node):
    "Is this a function of the command line (`@app.command()`)?"
    names = (getattr(getattr(d, "func", d), "attr", "") for d in node.decorator_list)
    return any(name in {"command", "callback"} for name in names)


def ambiguous(found):
    """The bare names that may mean something else than the one top-level symbol of that name;
    `found`: what `modules` returns."""
    defined = [(name, *what) for names in found.values() for name, what in names.items()]
    methods = {method for _, _, inside in defined for method in inside}
    commands = {name for name, node, _ in defined if is_command(node)}
    names = [name for name, _, _ in defined]
    return (
        KERAS | ARGUMENTS | methods | commands | {name for name in names if names.count(name) > 1}
    )


def symbols(index, package, pages):
    """What may be linked, from nbdev's index, the package's modules and the pages.

    A name is qualified (`cli.sample`, `vaenb.cli.sample`, `VAE.sample`) or is a top-level one that means nothing else.
    A method without documentation of its own leads to its class, another symbol without documentation nowhere."""
    unclear = ambiguous(modules(index, package))
    pages_of = {page["out"]: name for name, page in pages.items()}
    found = {}
    for module, names in index["syms"].items():
        for full, (target, _) in names.items():
            page = pages_of.get(target.partition("#")[0])
            symbol = full.removeprefix(module + ".")
            shown = pages[page]["shown"] if page else []
            documented = next((s for s in (symbol, symbol.partition(".")[0]) if s in shown), None)
            if documented is None:
                continue
            short = module.rpartition(".")[2]
            for name in {symbol, f"{short}.{symbol}", f"{module}.{symbol}"} - unclear:
                found[name] = (page, documented.lower())
    return found


def link(markdown, page, targets):
    """The Markdown with its symbols linked; links, headings, formulas and code blocks stay as
    they are."""

    def linked(match):
        target = targets.get(match["name"])
        if target is None:
            return match[0]
        path = "" if target[0] == page else os.path.relpath(target[0], os.path.dirname(page) or ".")
        return f"[{match[0]}]({path}#{target[1]}){{.symbol}}"

    return KEPT.sub(linked, markdown)
