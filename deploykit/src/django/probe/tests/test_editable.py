"""Editable packages in a sandbox."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from deploykit_probe import editable


def test_the_staged_tree_becomes_the_live_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In files that lead to it and in what is loaded, but not in longer names."""
    packages, kept = tmp_path / "site-packages", tmp_path / "kept"
    (packages / "__pycache__").mkdir(parents=True)
    (packages / "a.dist-info").mkdir()
    (packages / "a.pth").write_text("/srv/a b.next/lib\n/srv/a b.next2/lib\n")
    os.link(packages / "a.pth", kept)
    (packages / "a.dist-info" / "direct_url.json").write_text('{"url": "file:///srv/a%20b.next/lib"}')
    (packages / "__editable___a_finder.py").write_text("MAPPING = {'a': '/srv/a b.next/lib/a'}\n")
    (packages / "__pycache__" / "__editable___a_finder.cpython-311.pyc").write_bytes(b"")
    (packages / "b.py").write_text("/srv/a b.next\n")
    finder = ModuleType("__editable___a_finder")
    finder.MAPPING = {"a": "/srv/a b.next/lib/a"}  # type: ignore[attr-defined]
    finder.NAMESPACES = {"n": ["/srv/a b.next"]}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, finder.__name__, finder)
    monkeypatch.setattr(sys, "path", ["/srv/a b.next/lib", "/srv/other"])
    monkeypatch.setattr("site.getsitepackages", lambda prefixes: [str(packages), "/nowhere"])
    editable.lead_to("/srv/a b", "/srv/a b.next")
    assert (packages / "a.pth").read_text() == "/srv/a b/lib\n/srv/a b.next2/lib\n"
    assert kept.read_text() == "/srv/a b.next/lib\n/srv/a b.next2/lib\n"
    assert (packages / "a.dist-info" / "direct_url.json").read_text() == '{"url": "file:///srv/a%20b/lib"}'
    assert (packages / "__editable___a_finder.py").read_text() == "MAPPING = {'a': '/srv/a b/lib/a'}\n"
    assert list((packages / "__pycache__").iterdir()) == []
    assert (packages / "b.py").read_text() == "/srv/a b.next\n"
    assert sys.path == ["/srv/a b/lib", "/srv/other"]
    assert finder.MAPPING == {"a": "/srv/a b/lib/a"} and finder.NAMESPACES == {"n": ["/srv/a b"]}
