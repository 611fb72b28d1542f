"""Lets git find the live repository while the staged tree, whose `.git` is a file, is at the live path."""

from __future__ import annotations

import os

# The name of the live repository in a sandbox.
REPOSITORY = ".deploykit-git"


def text(live: str, staged: str, repository: str) -> str | None:
    """Returns the contents of `.git` for a live repository at the last path; `None`: the staged tree's leads elsewhere."""
    path = staged + "/.git"
    if not os.path.isfile(path):
        return None
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        said = file.read().rstrip("\n")
    # With `worktree.useRelativePaths`, it is a path from the staged tree.
    known = os.path.normpath(os.path.join(staged, said[len("gitdir: ") :]))
    for top in (live, os.path.realpath(live)):
        if known.startswith(top + "/.git/"):
            return "gitdir: %s%s\n" % (repository, known[len(top + "/.git") :])
    return None


def write(path: str, said: str) -> None:
    """Writes a `.git` with these contents."""
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(said)
