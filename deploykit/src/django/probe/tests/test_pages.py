"""Pages that are served for a rehearsal."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path
from typing import Any, Iterator

import pytest

from deploykit_probe import happened

from .sites import Page, Probe

SETTINGS = """
SECRET_KEY = "x" * 50
ALLOWED_HOSTS = ["www.example.com"]
ROOT_URLCONF = "config.urls"
INSTALLED_APPS = ["shop"]
MIDDLEWARE = ["django.middleware.csrf.CsrfViewMiddleware", "shop.views.middleware"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
WSGI_APPLICATION = "config.wsgi.application"
SECURE_PROXY_SSL_HEADER = None
# As in many sites: these loggers are silenced.
LOGGING = {"version": 1, "disable_existing_loggers": True, "handlers": {"null": {"class": "logging.NullHandler"}},
    "loggers": {"django.security.DisallowedHost": {"handlers": ["null"], "propagate": False, "level": "CRITICAL"}}}
"""

URLS = """
from django.urls import path
from shop import views

urlpatterns = [path(name + "/", getattr(views, name)) for name in views.NAMES] + [path("", views.home)]
"""

VIEWS = """
import asyncio, errno, os, signal, socket, threading, urllib.request
from django.http import HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.shortcuts import render
from django.db import connection

NAMES = "bad_template missing raising through streaming later moved post calls redis read_only quit whole asynchronous".split()
RELEASED = threading.Event()
NAMES += ["slow", "release", "killed"]

def middleware(get_response):
    def answer(request):
        if request.path == "/through/":
            raise LookupError("the middleware fails")
        return get_response(request)
    return answer

def home(request):
    shown = [request.scheme, request.get_host(), request.GET.get("q", ""), request.META["REMOTE_ADDR"], request.path]
    return HttpResponse("|".join(shown) + "|" + request.headers.get("X-Asked", ""))

def bad_template(request):
    return render(request, "shop/bad.html", {"thing": 1})

def missing(request):
    return render(request, "shop/none.html")

def raising(request):
    return HttpResponse(1 / int("0"))

def through(request):
    raise AssertionError("not reached")

def parts():
    yield "first "
    raise RuntimeError("the second part fails")

def streaming(request):
    return StreamingHttpResponse(parts())

def later(request):
    answer = HttpResponse("short")
    answer["Content-Length"] = "50"
    return answer

def moved(request):
    return HttpResponseRedirect("/elsewhere/")

def post(request):
    return HttpResponse("posted")

def calls(request):
    try:
        urllib.request.urlopen("https://api.deploykit.invalid/x", timeout=3)
    except OSError as error:
        return HttpResponse("failed")

def redis(request):
    for family, address in ((socket.AF_INET, ("127.0.0.1", 9)), (socket.AF_UNIX, "/nowhere/redis.sock")):
        try:
            socket.socket(family).connect(address)
        except OSError:
            pass
    return HttpResponse("without")

def read_only(request):
    try:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/srv/cache/thumbnail.png")
    except OSError as error:
        raise ValueError("no thumbnail") from error

def quit(request):
    raise SystemExit(3)

def whole(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return StreamingHttpResponse(("%d," % number for number in range(3)))

async def asynchronous(request):
    await asyncio.sleep(0)
    if request.GET:
        raise KeyError("asynchronous")
    return HttpResponse("async")

def slow(request):
    RELEASED.wait(20)
    return HttpResponse("slow")

def release(request):
    RELEASED.set()
    return HttpResponse()

def killed(request):
    os.kill(os.getpid(), signal.SIGKILL)
"""

FILES = {
    "config/settings.py": SETTINGS,
    "config/urls.py": URLS,
    "config/wsgi.py": "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n",
    "config/asgi.py": "from django.core.asgi import get_asgi_application\napplication = get_asgi_application()\n",
    "shop/__init__.py": "",
    "shop/views.py": VIEWS,
    "shop/templates/shop/bad.html": "<p>\n{{ thing }}\n{% url 'nowhere' %}\n",
    "made.py": "from django.core.wsgi import get_wsgi_application\ndef create(name='x'):\n    return get_wsgi_application()\n"
    "broken = 1 / 0 if __name__ == 'broken' else None\n",
    "failing.py": "import nothing_like_it\n",
    "lifespan.py": """
class Application:
    def __init__(self):
        self.began = False
    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            self.began = True
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "http.response.start", "status": 299, "headers": [(b"x-began", b"%d" % self.began)]})
        await send({"type": "http.response.body", "body": b"one ", "more_body": True})
        await send({"type": "http.response.body", "body": scope["path"].encode()})
application = Application()
async def unstarted(scope, receive, send):
    await send({"type": "lifespan.startup.failed", "message": "no pool"})
def factory():
    return Application()
""",
    "static/css/site.css": "p {}",
    "static/app.mjs": "1",
    "static/font.woff2": "f",
    "secret.txt": "secret",
}


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory, packages: Path) -> Iterator[tuple[Probe, Path]]:
    """Boots the site, once for all tests."""
    directory = tmp_path_factory.mktemp("site")
    probe = Probe(directory, packages, FILES)
    yield probe, directory
    probe.end()


@pytest.fixture
def site(booted: tuple[Probe, Path]) -> Iterator[tuple[Probe, Path]]:
    """Returns the site; a test that failed leaves nothing to the next one."""
    yield booted
    if (booted[1] / "pages.sock").exists():
        booted[0].error("end_pages")


def begin(site: tuple[Probe, Path], kind: str, application: str | None = None) -> Path:
    """Begins to serve pages, and returns the socket."""
    probe, directory = site
    path = directory / "pages.sock"
    places = [["/static/", str(directory / "static")]]
    said = probe.ask("begin_pages", socket=str(path), scheme="https", application=application, files=places)
    assert said == {"kind": kind, "application": application or "config.wsgi:application"}
    return path


def end(site: tuple[Probe, Path]) -> dict[str, Any]:
    """Stops serving pages, and returns the records by their paths."""
    requests = site[0].ask("end_pages")["requests"]
    assert not (site[1] / "pages.sock").exists()
    return {request["path"]: request for request in requests}


def failure(record: dict[str, Any]) -> tuple[str, str | None, bool]:
    """Returns type, place and owner of the only exception of a record."""
    (error,) = record["exceptions"]
    return error["type"], error["where"], error["site"]


def line_of(text: str) -> int:
    """Returns the line of the views that holds a text."""
    return VIEWS[: VIEWS.index(text)].count("\n") + 1


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_pages_fail_as_they_do_behind_a_server(site: tuple[Probe, Path], kind: str) -> None:
    """Status, body and the exceptions with their places."""
    path = begin(site, kind, "config.%s:application" % kind)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    home = Page(path, "/?q=caf%C3%A9", X_Asked="yes")
    assert (home.status, home.body.decode()) == (200, "https|www.example.com|café|127.0.0.1|/|yes")
    assert Page(path, "/whole/").body == b"0,1,2,"
    assert (Page(path, "/", "HEAD").status, Page(path, "/asynchronous/").body) == (200, b"async")
    assert Page(path, "/moved/").headers["Location"] == "/elsewhere/"
    names = ("bad_template", "missing", "raising", "through", "asynchronous/?x", "read_only", "quit")
    for name in names:
        assert Page(path, "/%s/" % name if "?" not in name else "/" + name).status == 500, name
    streaming = Page(path, "/streaming/")
    # Django consumes such an answer before it sends a part of it through ASGI.
    assert (streaming.status, streaming.body, streaming.broken) == (200, b"first " if kind == "wsgi" else b"", True)
    assert Page(path, "/later/").broken
    assert Page(path, "/nowhere/").status == 404
    assert Page(path, "/?host", Host="other.example.com").status == 400
    assert Page(path, "/post/", "POST", b"a=1", Content_Type="application/x-www-form-urlencoded").status == 403
    records = end(site)
    for good in ("/?q=caf%C3%A9", "/whole/", "/moved/", "/nowhere/", "/asynchronous/"):
        assert records[good]["exceptions"] == [] and records[good]["complete"], good
    assert failure(records["/bad_template/"]) == (
        "django.urls.exceptions.NoReverseMatch",
        "shop/templates/shop/bad.html, line 3",
        True,
    )
    place = "shop/views.py, line %d (in %s)"
    missing = place % (line_of('return render(request, "shop/none.html")'), "missing")
    assert failure(records["/missing/"]) == ("django.template.exceptions.TemplateDoesNotExist", missing, True)
    raising = place % (line_of("return HttpResponse(1 / int"), "raising")
    assert failure(records["/raising/"]) == ("ZeroDivisionError", raising, True)
    assert records["/raising/"]["exceptions"][0]["message"] == "division by zero"
    assert records["/raising/"]["exceptions"][0]["trace"][-1] == "ZeroDivisionError: division by zero"
    middleware = place % (line_of("raise LookupError"), "answer")
    assert failure(records["/through/"]) == ("LookupError", middleware, True)
    assert failure(records["/asynchronous/?x"])[0] == "KeyError"
    assert failure(records["/streaming/"])[0] == "RuntimeError"
    assert (records["/streaming/"]["status"], records["/streaming/"]["complete"]) == (200, False)
    assert not records["/later/"]["complete"]
    assert records["/read_only/"]["read_only"] == "/srv/cache/thumbnail.png"
    assert records["/raising/"]["read_only"] is None
    assert failure(records["/?host"])[0] == "django.core.exceptions.DisallowedHost"
    assert failure(records["/post/"]) == ("django.security.csrf", None, False)
    unhandled = [records[name]["unhandled"] for name in ("/through/", "/asynchronous/?x", "/post/", "/?host", "/moved/")]
    assert unhandled == [True, True, False, False, False]
    assert "Referer checking failed" in records["/post/"]["exceptions"][0]["message"]
    assert failure(records["/quit/"])[0] == "SystemExit"


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_the_network_is_recorded_for_each_request(site: tuple[Probe, Path], kind: str) -> None:
    """What is looked up, and what this machine does not answer at; not what it does."""
    path = begin(site, kind, "config.%s:application" % kind)
    for name in ("calls", "redis", "whole"):
        assert Page(path, "/%s/" % name).status == 200
    records = end(site)
    assert records["/calls/"]["network"] == ["api.deploykit.invalid:443"]
    assert records["/redis/"]["network"] == ["127.0.0.1:9", "/nowhere/redis.sock"]
    assert records["/whole/"]["network"] == []
    assert site[0].ask("network") == {"tried": []}


def test_files_of_the_web_server(site: tuple[Probe, Path]) -> None:
    """They come from a directory, and from nowhere else."""
    path = begin(site, "wsgi")
    css = Page(path, "/static/css/site.css?v=1")
    assert (css.status, css.body, css.headers["Content-Type"]) == (200, b"p {}", "text/css")
    assert Page(path, "/static/app.mjs").headers["Content-Type"] == "text/javascript"
    assert Page(path, "/static/font.woff2").headers["Content-Type"] == "font/woff2"
    assert (Page(path, "/static/css/site.css", "HEAD").body, Page(path, "/static/css/").status) == (b"", 403)
    for name in ("none.css", "../secret.txt", "%2e%2e/secret.txt", "css/..%2f../../secret.txt", "x%00", "app.mjs/x", "a" * 300):
        answer = Page(path, "/static/" + name)
        assert (answer.status, b"secret" in answer.body) == (404, False), name
    assert Page(path, "/static/app.mjs", "POST").status == 405
    assert end(site)["/static/none.css"] == {
        "method": "GET",
        "path": "/static/none.css",
        "status": 404,
        "complete": True,
        "exceptions": [],
        "unhandled": False,
        "network": [],
        "read_only": None,
    }


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_requests_are_answered_at_once(site: tuple[Probe, Path], kind: str) -> None:
    """A slow page does not keep others waiting, and its record is its own."""
    path = begin(site, kind, "config.%s:application" % kind)
    slow = threading.Thread(target=Page, args=(path, "/slow/"))
    slow.start()
    statuses = [Page(path, name).status for name in ("/raising/", "/whole/", "/release/")]
    slow.join()
    records = end(site)
    assert statuses == [500, 200, 200]
    assert [path for path, record in records.items() if record["exceptions"]] == ["/raising/"]
    assert [path for path, record in records.items() if record["unhandled"]] == ["/raising/"]
    assert records["/slow/"]["status"] == 200


def test_a_page_may_never_answer(site: tuple[Probe, Path]) -> None:
    """The record says that it did not; one that kills its process leaves no records."""
    path = begin(site, "wsgi")
    with pytest.raises(TimeoutError):
        Page(path, "/slow/", seconds=0.3)
    assert Page(path, "/whole/").status == 200
    records = end(site)
    assert (records["/slow/"]["status"], records["/slow/"]["complete"]) == (None, False)
    assert records["/whole/"]["complete"]
    path = begin(site, "wsgi")
    with pytest.raises(OSError):
        Page(path, "/killed/")
    error = site[0].error("end_pages")["error"]
    assert (error["kind"], error["application"]) == ("wsgi", "config.wsgi:application")
    assert error["message"] == "the process that answers pages was ended by signal 9"


@pytest.mark.parametrize("name", ["made:create()", "made:create('y', )", "made:create(name='y')", "config.wsgi"])
def test_applications_are_found_as_servers_find_them(site: tuple[Probe, Path], name: str) -> None:
    """A module, a name in it, or a function that makes it."""
    path = begin(site, "wsgi", name)
    assert Page(path, "/").status == 200
    end(site)


@pytest.mark.parametrize("name", ["lifespan:application", "lifespan:factory", "lifespan.application"])
def test_an_application_begins_its_lifespan(site: tuple[Probe, Path], name: str) -> None:
    """It makes there what its pages need."""
    path = begin(site, "asgi", name)
    answer = Page(path, "/a%20b")
    assert (answer.status, answer.body, answer.headers["X-Began"]) == (299, b"one /a b", "1")
    end(site)


def test_an_application_that_does_not_load(site: tuple[Probe, Path]) -> None:
    """The error says why, and nothing stays."""
    path = site[1] / "pages.sock"
    for name, kind, message in (
        ("failing:application", "ModuleNotFoundError", "No module named 'nothing_like_it'"),
        ("made:nothing", "AttributeError", "module 'made' has no attribute 'nothing'"),
        ("lifespan:unstarted", "RuntimeError", "no pool"),
    ):
        error = site[0].error("begin_pages", socket=str(path), scheme="http", application=name, files=[])["error"]
        assert (error["kind"], error["application"], error["type"], error["message"]) == ("wsgi", name, kind, message)
        assert not path.exists()
    nowhere = str(site[1] / "none" / "pages.sock")
    error = site[0].error("begin_pages", socket=nowhere, scheme="http", application=None, files=[])["error"]
    assert (error["kind"], error["path"], error["type"]) == ("pages_socket", nowhere, "FileNotFoundError")


def test_a_process_with_threads_serves_itself(tmp_path: Path, packages: Path) -> None:
    """A fork would not have them. The path of the socket may be long."""
    thread = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    settings = SETTINGS.replace('WSGI_APPLICATION = "config.wsgi.application"', "")
    files = {**FILES, "config/settings.py": settings, "shop/__init__.py": thread}
    directory = tmp_path / ("d" * 110)
    directory.mkdir()
    probe = Probe(directory, packages, files)
    short = tmp_path / "s"
    short.symlink_to(directory)
    said = probe.ask("begin_pages", socket=str(directory / "pages.sock"), scheme="http", application=None, files=[])
    # Without a setting, Django's own server takes this one.
    assert said == {"kind": "wsgi", "application": "django.core.wsgi:get_wsgi_application"}
    assert Page(short / "pages.sock", "/raising/").status == 500
    (record,) = probe.ask("end_pages")["requests"]
    assert failure(record)[0] == "ZeroDivisionError"
    probe.end()


def test_errors_of_the_sandbox_are_distinguished() -> None:
    """A page that fails because of them does not refuse the release."""
    numbers = (errno.EROFS, errno.EBUSY, errno.EOVERFLOW, errno.EXDEV, errno.ENOENT, errno.EACCES)
    found = [happened.read_only_path(OSError(number, "text", "/a")) for number in numbers]
    assert found == ["/a"] * 4 + [None] * 2
