"""Editable packages of the staged tree, in a sandbox where that tree is at the live path."""

from __future__ import annotations

import os
import re
import site
import sys
import traceback
from typing import Any
from urllib.parse import quote


def lead_to(live: str, staged: str) -> None:
    """Replaces the staged tree by the live one in the files of the virtualenv, and in what Python has read of them."""
    for directory in site.getsitepackages([sys.prefix]):
        for path in files_in(directory):
            try:
                rewrite(path, lambda text: replaced(text, live, staged))
            except OSError:
                # It cannot be written here: the package is imported from the staged tree.
                traceback.print_exc(file=sys.stderr)
    lead_python_to(live, staged)


def lead_python_to(live: str, staged: str) -> None:
    """Replaces the staged tree by the live one in what Python has read of the virtualenv."""
    sys.path[:] = [replaced(entry, live, staged) for entry in sys.path]
    sys.path_importer_cache.clear()
    for name, module in list(sys.modules.items()):
        for mapping in ("MAPPING", "NAMESPACES") if name.startswith("__editable__") else ():
            found: Any = getattr(module, mapping, {})
            for key, value in found.items():
                found[key] = (
                    replaced(value, live, staged) if isinstance(value, str) else [replaced(one, live, staged) for one in value]
                )


def replaced(text: str, live: str, staged: str) -> str:
    """Returns a text with the live path in the place of the staged one."""
    for old in (staged, os.path.realpath(staged)):
        for name, other in ((old, live), (quote(old), quote(live))):
            text = re.sub(re.escape(name) + r"(?![\w.%-])", other.replace("\\", r"\\"), text)
    return text


def files_in(directory: str) -> list[str]:
    """Returns the files that may say where editable packages are."""
    found = []
    for name in os.listdir(directory) if os.path.isdir(directory) else ():
        path = os.path.join(directory, name)
        if name.endswith((".pth", ".egg-link")) or (name.startswith("__editable__") and name.endswith(".py")):
            found.append(path)
        elif name.endswith(".dist-info") and os.path.exists(path + "/direct_url.json"):
            found.append(path + "/direct_url.json")
    return found


def rewrite(path: str, replaced: Any) -> None:
    """Rewrites a file, which may be a hard link to that of another virtualenv, if its text changes; removes its bytecode."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        text = file.read()
    changed = replaced(text)
    if changed == text:
        return
    with open(path + ".new", "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(changed)
    os.replace(path + ".new", path)
    compiled = os.path.join(os.path.dirname(path), "__pycache__")
    for name in os.listdir(compiled) if os.path.isdir(compiled) else ():
        if name.startswith(os.path.basename(path)[: -len(".py")] + "."):
            os.unlink(os.path.join(compiled, name))
