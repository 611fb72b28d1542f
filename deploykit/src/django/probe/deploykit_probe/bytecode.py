"""Bytecode."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys

from .kinds import Json
from .registry import answers


@answers("compile")
def do_compile(request: Json) -> Json:
    """Compiles sources of this tree, and says where the bytecode is; both go by paths from the top of the tree.

    Such bytecode counts by what the source holds and not by its time, which a checkout sets anew.
    """
    import py_compile

    if getattr(sys, "pycache_prefix", None) or not sys.implementation.cache_tag:
        return {"compiled": []}
    top, found = request["top"], []
    for name in request["sources"]:
        path = os.path.join(top, name)
        target = importlib.util.cache_from_source(path)
        try:
            # A link would lead into the live tree.
            if os.path.islink(path) or os.path.islink(os.path.dirname(target)):
                continue
            mode = py_compile.PycInvalidationMode.CHECKED_HASH
            live = os.path.join(request["live"], name)
            py_compile.compile(path, target, live, doraise=True, optimize=0, invalidation_mode=mode)
        except Exception:
            # It is for another Python, or a template; whoever imports it will hear of it.
            continue
        found.append(os.path.relpath(target, top))
    return {"compiled": found}
