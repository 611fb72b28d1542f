"""What leads git to the live repository (`git_link.py`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploykit_probe import git_link


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("gitdir: {top}/site/.git/worktrees/next\n", "gitdir: /other/worktrees/next\n"),
        ("gitdir: ../site/.git/worktrees/next\n", "gitdir: /other/worktrees/next\n"),
        ("gitdir: {top}/real/site/.git/worktrees/next", "gitdir: /other/worktrees/next\n"),
        ("gitdir: {top}/elsewhere/.git/worktrees/next\n", None),
        ("gitdir: {top}/site/.git-2/worktrees/next\n", None),
        (None, None),
    ],
)
def test_only_a_link_into_the_live_tree_is_replaced(tmp_path: Path, said: str | None, expected: str | None) -> None:
    """By an absolute, a relative or a real path."""
    (tmp_path / "real/site/.git").mkdir(parents=True)
    (tmp_path / "site").symlink_to("real/site")
    (tmp_path / "next").mkdir()
    if said is not None:
        (tmp_path / "next/.git").write_text(said.format(top=tmp_path))
    assert git_link.text(str(tmp_path / "site"), str(tmp_path / "next"), "/other") == expected
