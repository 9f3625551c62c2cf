"""Read the package's name, version and requirements from settings.ini, so they stand in one place."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(here / "settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]
extras = {
    name: cfg[f"{name}_requirements"].split()
    for name in ("tensorflow", "jax", "torch", "lab", "dev")
}

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    license="Apache-2.0",
    url=cfg["git_url"],
    keywords=cfg["keywords"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
    ],
    packages=find_packages(include=["vaenb", "vaenb.*"]),
    package_data={"vaenb": ["*.js", "*.css", "records/*.json", "records/reproduce/*.json"]},
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
