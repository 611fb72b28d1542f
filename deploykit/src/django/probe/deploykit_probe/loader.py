"""Lets Python import the modules of this package, which lie in no directory, and runs them."""

from __future__ import annotations

import base64
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import sys
import zlib
from typing import IO, Any

PACKAGE = "deploykit_probe"


class Sources(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds and loads modules by their sources."""

    def __init__(self, sources: dict[str, str]) -> None:
        """Takes the sources by the names of their modules in the package; `__init__` is the package itself."""
        self.sources = {PACKAGE if name == "__init__" else PACKAGE + "." + name: text for name, text in sources.items()}

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Returns how a module is loaded; `None`: it is not one of these."""
        if fullname not in self.sources:
            return None
        return importlib.util.spec_from_loader(fullname, self, is_package=fullname == PACKAGE)

    def exec_module(self, module: Any) -> None:
        """Runs the source of a module."""
        code = compile(self.sources[module.__name__], "<deploykit>", "exec", dont_inherit=True)
        exec(code, module.__dict__)


def start(packed: str, requests: IO[bytes]) -> None:
    """Imports the modules, all of them at once, and answers requests until the input ends."""
    finder = Sources(json.loads(zlib.decompress(base64.b64decode(packed))))
    sys.meta_path.insert(0, finder)
    try:
        serve = importlib.import_module(PACKAGE + ".serve")
    finally:
        sys.meta_path.remove(finder)
    serve.run(requests)
