"""Finds the site's WSGI or ASGI application, as its server does."""

from __future__ import annotations

import ast
import importlib
import inspect
from typing import Any

from .asgi import is_asgi


def application_name(asked: str | None) -> str:
    """Returns the name of the requested application, or that of the settings, or the default of Django's own server."""
    from django.conf import settings

    if asked:
        return asked
    for name in ("WSGI_APPLICATION", "ASGI_APPLICATION"):
        path = getattr(settings, name, None)
        if path:
            return ":".join(str(path).rsplit(".", 1))
    return "django.core.wsgi:get_wsgi_application"


def load(path: str) -> tuple[str, Any]:
    """Loads `module`, `module:name`, `module:factory()` or `module.name`; returns `wsgi` or `asgi`, and the application."""
    if ":" in path:
        module, expression = path.split(":", 1)
        found = evaluated(importlib.import_module(module), expression.strip() or "application")
    else:
        found = attribute(path)
    if makes_applications(found):
        found = found()
    return "asgi" if is_asgi(found) else "wsgi", found


def attribute(path: str) -> Any:
    """Returns `application` of a module, or what a dotted path leads to."""
    from django.utils.module_loading import import_string

    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if "." not in path or not error.name or not (path + ".").startswith(error.name + "."):
            raise
        return import_string(path)
    return module.application


def evaluated(module: Any, expression: str) -> Any:
    """Evaluates a name, or the call of a function with literal arguments, in a module."""
    call: Any = ast.parse(expression, mode="eval").body
    found = module
    for name in expression.split("(")[0].strip().split("."):
        found = getattr(found, name)
    if not isinstance(call, ast.Call):
        return found
    arguments = [ast.literal_eval(one) for one in call.args]
    named = {one.arg: ast.literal_eval(one.value) for one in call.keywords if one.arg}
    return found(*arguments, **named)


def makes_applications(found: Any) -> bool:
    """Tells whether it is a factory, a function without parameters: `uvicorn --factory` names one without parentheses."""
    if not inspect.isroutine(found):
        return False
    try:
        return not inspect.signature(found).parameters
    except (TypeError, ValueError):
        return False
