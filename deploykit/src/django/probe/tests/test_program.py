"""The program as deploykit sends it, and its modules as files."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from deploykit_probe import serve  # noqa: F401
from deploykit_probe.registry import ANSWERING, answers

from .sites import LOADER, MODULES, program


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_syntax_is_newer_than_python_3_8(path: Path) -> None:
    """The oldest Python that is supported reads every module."""
    ast.parse(path.read_text("utf-8"), feature_version=(3, 8))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_only_functions_import_from_django(path: Path) -> None:
    """At import, a module needs the standard library and its siblings only: Django may not be there."""
    for node in ast.parse(path.read_text("utf-8")).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        tops = {name.split(".")[0] for name in names}
        assert tops <= set(sys.stdlib_module_names), path.name


def test_without_django_the_error_says_so(tmp_path: Path) -> None:
    """The program starts in an interpreter that has no Django."""
    lines = "".join(json.dumps(line) + "\n" for line in (program(), {"directory": str(tmp_path), "limit": 60}))
    argv = [sys.executable, "-I", "-S", "-c", LOADER]
    done = subprocess.run(argv, input=lines.encode(), stdout=subprocess.PIPE, check=True)
    (answer,) = [json.loads(line) for line in done.stdout.decode().splitlines() if line]
    assert answer["error"]["kind"] == "no_django"
    assert answer["error"]["type"] == "ModuleNotFoundError"
    assert "File" not in "".join(answer["error"]["traceback"]), "frames of ours are left out"


def test_every_request_has_one_function() -> None:
    """The registry has what `session.rs` asks for, and takes no name twice."""
    names = """
        backup
        backup_facts
        begin_collect
        begin_pages
        begin_twin
        can_copy
        check
        clear_scratch
        compile
        confirm_copies
        copy_databases
        digests
        end_collect
        end_pages
        end_twin
        facts
        fork
        join
        load_workers
        login_url
        lower_priority
        migrate
        migrate_by_command
        migrations
        moved
        network
        own_command
        ping
        pooling
        restore_backup
        reversal
        reverse
        rows
        run_program
        settle
        state
        static_sources
        stop_servers
        try_sandbox
    """
    assert sorted(ANSWERING) == names.split()
    with pytest.raises(ValueError, match="`ping`"):
        answers("ping")(ANSWERING["ping"])
