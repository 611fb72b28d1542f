"""Checks whether the site works."""

from __future__ import annotations

import importlib
import os

from . import origin
from .errors import guarded, text_of
from .kinds import Json, Settings
from .registry import answers


def load_urls(settings: Settings) -> None:
    """Imports the URL configuration whole."""
    from django.urls import get_resolver

    importlib.import_module(settings.ROOT_URLCONF)
    for pattern in get_resolver().url_patterns:
        getattr(pattern, "url_patterns", None)


def load_application(path: str) -> None:
    """Loads what gunicorn would: `module`, `module:name`, or Django's `module.name`."""
    name = "application"
    if ":" in path:
        path, name = path.split(":", 1)
        name = name.split("(")[0].strip() or "application"
    module = importlib.import_module(path)
    for part in name.split("."):
        module = getattr(module, part)


@answers("check")
def do_check(request: Json) -> Json:
    """Runs the system checks, and loads the URL configuration and the application."""
    origin.LOADING = True
    try:
        return check(request)
    finally:
        origin.LOADING = False


def check(request: Json) -> Json:
    """Does it, and says what was found."""
    from django.conf import settings
    from django.core import checks

    if getattr(settings, "ROOT_URLCONF", None):
        guarded("urls", load_urls, settings)
    messages = []
    for message in guarded("checks", checks.run_checks):
        level = "info"
        if message.level >= checks.ERROR:
            level = "error"
        elif message.level >= checks.WARNING:
            level = "warning"
        if not message.is_silenced():
            obj = None if message.obj is None else text_of(message.obj)
            hint = None if message.hint is None else text_of(message.hint)
            found = {"level": level, "id": message.id, "message": text_of(message.msg), "hint": hint, "object": obj}
            messages.append(found)
    before = os.environ.get("DJANGO_SETTINGS_MODULE")
    application = request.get("wsgi")
    if not application:
        for name in ("WSGI_APPLICATION", "ASGI_APPLICATION"):
            path = getattr(settings, name, None)
            if path and not application:
                application = ":".join(path.rsplit(".", 1))
    if application:
        guarded("wsgi", load_application, application, application=application)
    after = os.environ.get("DJANGO_SETTINGS_MODULE")
    if before is not None:
        os.environ["DJANGO_SETTINGS_MODULE"] = before
    other = after if after != before else None
    return {"messages": messages, "application": application, "other_settings": other}
