"""What takes turns in `make test`: what was changed lately runs at once, the rest now and then.

A chapter, or a test marked `rotating`, runs if its code differs from that of twenty commits ago.
The others run in their turn: a tenth of them, another tenth every day and after every twenty
commits. VAENB_ROTATION=<the number that pytest prints at its start> repeats a choice.
"""

import datetime
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMITS = 20  # a change that is handed in has fewer
SHARES = 10  # after so many turns the first share has its turn again


def git(*words):
    """What git prints, or None where it fails."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def turn():
    """The number of today's turn."""
    if not os.environ.get("VAENB_ROTATION"):
        commits = int(git("rev-list", "--count", "--first-parent", "HEAD") or 0)
        os.environ["VAENB_ROTATION"] = str(datetime.date.today().toordinal() + commits // COMMITS)
    return int(os.environ["VAENB_ROTATION"])


def has_turn(i):
    """Whether the i-th of those that take turns has its turn today."""
    return i % SHARES == turn() % SHARES


def is_changed(path, read=str):
    """Whether a file differs from that of twenty commits ago, in what is read from its text.

    True where it was absent, or the history does not reach so far; False outside a clone, as in an
    unpacked archive.

    - path: an absolute Path in this project
    - read: a function of the text
    """
    if git("rev-parse", "HEAD") is None:
        return False
    before = git("show", f"HEAD~{COMMITS}:{path.relative_to(ROOT).as_posix()}")
    return not before or read(before) != read(path.read_text(encoding="utf-8").strip())
