"""A bridge: gunicorn of the next version, which waits on the socket of the running one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Iterator

import pytest

from .bridges import USERS, Page, Site, Visitor, site_of, until


@pytest.fixture(params=USERS, ids=lambda user: "root" if user == 0 else "ordinary")
def site(request: pytest.FixtureRequest, servers: Path) -> Iterator[Site]:
    """A site, of root and of an ordinary user."""
    with site_of(request.param, servers) as site:
        yield site


def test_it_waits_then_serves_then_ends(site: Site) -> None:
    """Answers wait while the gate is shut; then all of them come from the bridge, at the live paths."""
    mounts = Path("/proc/self/mountinfo").read_text()
    site.start_web()
    pidfile = (site.top / "gunicorn.pid").read_text()
    site.start_bridge()
    assert site.ready() == [{"workers": 2, "threads": [], "written": []}] * 2
    assert json.loads((site.directory / "master").read_text())["pid"] == site.bridge.pid
    assert (Page(site, "/facts/").facts["version"], (site.top / "gunicorn.pid").read_text()) == ("old", pidfile)
    assert site.stop(site.web) == 0
    pages = [Page(site, "/facts/") for _ in range(8)]
    site.switch()
    assert not [page for page in pages if page.has_come()]
    site.open_gate()
    found = [page.facts for page in pages]
    assert all(page.is_marked for page in pages)
    told = {"version": "new", "master": site.bridge.pid, "directory": str(site.live), "base": str(site.live), "style": "new"}
    assert [{name: facts[name] for name in told} for facts in found] == [told] * 8
    assert {facts["file"] for facts in found} == {str(site.live / "config/urls.py")}
    assert Page(site, "/stream/").body.count("new") == 3
    assert Page(site, "/stream/").is_marked
    assert (Page(site, "/fail/").status, Page(site, "/fail/").is_marked) == (500, True)
    assert (Page(site, "/write/").body, site.rows("db.sqlite3"), site.rows("state/deep/db.sqlite3")) == (
        "new",
        ["new"],
        ["new"],
    )
    until(lambda: (site.directory / "free").exists(), "the view is gone")
    slow = Page(site, "/slow/")
    until(lambda: (site.live / "uploads/slow").exists(), "the request is under way")
    site.bridge.terminate()
    (site.live / "uploads/go-on").touch()
    assert (slow.body, slow.is_marked, site.bridge.wait(timeout=60)) == ("new", True, 0)
    assert site.processes() == []
    assert not (site.top / "gunicorn.pid").exists()
    assert Path("/proc/self/mountinfo").read_text() == mounts
    site.start_web()
    page = Page(site, "/facts/")
    assert (page.facts["version"], page.is_marked) == ("new", False)


def test_no_request_fails(site: Site) -> None:
    """Over the whole sequence, for a visitor who also writes."""
    site.start_web()
    visitor = Visitor(site, "/facts/", "/write/", "/stream/")
    site.start_bridge()
    site.ready()
    assert site.stop(site.web) == 0
    site.switch()
    site.open_gate()
    until(lambda: visitor.pages[-1].is_marked, "the bridge serves")
    site.start_web()
    assert site.stop(site.bridge) == 0
    count = len(visitor.pages)
    until(lambda: len(visitor.pages) > count + 10, "the web serves")
    pages = visitor.stop()
    assert {page.status for page in pages} == {200}
    texts = ["old" if "old" in page.body else "new" for page in pages]
    assert texts == sorted(texts, reverse=True)
    assert not pages[-1].is_marked
