"""Reads the package's name, version and requirements from settings.ini, where nbdev needs them."""

import re
import shutil
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(here / "settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]
extras = {
    name: cfg[f"{name}_requirements"].split()
    for name in (
        *("tensorflow", "jax", "torch"),
        *("table", "compression", "data", "export", "tracking", "lab", "dev"),
    )
}


def with_full_links(markdown):
    """The text with links and pictures that work outside of the repository; code is left alone."""
    file = f"{cfg['git_url']}/blob/{cfg['branch']}/"
    raw = f"https://raw.githubusercontent.com/{cfg['user']}/{cfg['repo']}/{cfg['branch']}/"
    link = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s]+)\)")
    parts = re.split(r"(^```.*?^```)", markdown, flags=re.M | re.S)
    return "".join(
        part
        if part.startswith("```")
        else link.sub(lambda m: f"{m[1]}[{m[2]}]({raw if m[1] else file}{m[3]})", part)
        for part in parts
    )


class BuildWithBook(build_py):
    """Puts the chapters into the package, as the folder `book`."""

    def run(self):
        super().run()
        if self.editable_mode:  # an editable installation reads them where they are
            return
        for chapter in sorted((here / "nbs").rglob("*.ipynb")):
            path = chapter.relative_to(here / "nbs")
            if not {"_proc", ".ipynb_checkpoints"} & set(path.parts):
                target = Path(self.build_lib, "vaenb", "book", path)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(chapter, target)


setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=with_full_links((here / "README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    url=cfg["git_url"],
    project_urls={
        "Documentation": f"{cfg['doc_host']}{cfg['doc_baseurl']}",
        "Changelog": f"{cfg['git_url']}/blob/{cfg['branch']}/CHANGELOG.md",
        "Issues": f"{cfg['git_url']}/issues",
    },
    keywords=cfg["keywords"].split(),
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Framework :: Jupyter",
        "Intended Audience :: Education",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    packages=find_packages(include=["vaenb", "vaenb.*"]),
    package_data={"vaenb": ["*.js", "*.css", "records/*.json", "records/reproduce/*.json"]},
    cmdclass={"build_py": BuildWithBook},
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg["requirements"].split(),
    extras_require=extras,
    # `nbdev` lets the documentation of other projects link to our symbols.
    entry_points={
        "console_scripts": cfg["console_scripts"].split(),
        "nbdev": ["vaenb=vaenb._modidx:d"],
    },
    zip_safe=False,
)
