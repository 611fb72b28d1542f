"""Describes the site."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import sysconfig
from typing import Any

from .connections import sqlite_file, twins
from .errors import guarded
from .kinds import Json, Settings
from .registry import answers


def foreign_directories() -> tuple[str, ...]:
    """The directories of Python and of packages, each with a trailing slash."""
    import site

    paths = sysconfig.get_paths()
    bases = sysconfig.get_paths(vars={"base": sys.base_prefix, "platbase": sys.base_prefix})
    foreign = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    foreign |= {bases[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    foreign |= set(site.getsitepackages())
    return tuple(os.path.join(path, "") for path in foreign if path)


def first_party_modules() -> dict[str, str]:
    """Where the modules that no package brought were really imported from."""
    tops = foreign_directories()
    found = {}
    for name, module in sorted(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if not path or name in ("__main__", "__mp_main__") or not isinstance(path, str):
            continue
        path = os.path.abspath(path)
        if not path.startswith(tops):
            found[name] = path
    return found


def static_backend(settings: Settings) -> str | None:
    """Returns the class of the static files' storage, by its name."""
    storages = getattr(settings, "STORAGES", None)
    backend: str | None
    if isinstance(storages, dict) and "staticfiles" in storages:
        backend = storages["staticfiles"].get("BACKEND")
    else:
        backend = getattr(settings, "STATICFILES_STORAGE", None)
    return backend


def static_facts(settings: Settings) -> Json:
    """Says where static files go and what stores them."""
    from django.core.files.storage import FileSystemStorage
    from django.utils.module_loading import import_string

    backend = static_backend(settings)
    facts = {
        "installed": "django.contrib.staticfiles" in apps_names(),
        "root": str(settings.STATIC_ROOT) if settings.STATIC_ROOT else None,
        "url": str(settings.STATIC_URL) if settings.STATIC_URL else None,
        "storage": backend,
        "local": False,
        "manifest": False,
    }
    if backend and facts["installed"]:
        kind = guarded("static", import_string, backend)
        facts["local"] = isinstance(kind, type) and issubclass(kind, FileSystemStorage)
        facts["manifest"] = hasattr(kind, "manifest_name")
    return facts


def upload_directories(settings: Settings) -> list[str]:
    """Returns the directories that uploads are written to."""
    found = [getattr(settings, "MEDIA_ROOT", None)]
    for alias, storage in sorted((getattr(settings, "STORAGES", None) or {}).items()):
        if alias != "staticfiles" and isinstance(storage, dict) and is_local(storage.get("BACKEND")):
            found.append((storage.get("OPTIONS") or {}).get("location"))
    return sorted({os.path.abspath(str(directory)) for directory in found if directory})


def is_local(backend: Any) -> bool:
    """Tells whether a storage writes to a directory of this machine."""
    from django.core.files.storage import FileSystemStorage
    from django.utils.module_loading import import_string

    try:
        kind = import_string(backend)
    except Exception:
        return False
    return isinstance(kind, type) and issubclass(kind, FileSystemStorage)


def apps_names() -> list[str]:
    """Returns the installed apps."""
    from django.apps import apps

    return [config.name for config in apps.get_app_configs()]


def database_facts(alias: str) -> Json:
    """Says what a database is, without connecting to it."""
    from django.db import connections

    settings = connections.settings[alias]
    facts: Json = {"alias": alias, "engine": settings.get("ENGINE") or "", "vendor": "", "file": None, "twins": []}
    facts["vendor"] = guarded("database", lambda: connections[alias].vendor, database=alias)
    if facts["vendor"] == "sqlite":
        facts["file"] = sqlite_file(connections[alias])
    facts["twins"] = guarded("database", twins, alias, database=alias)
    return facts


def maintenance_status_file(settings: Settings, commands: dict[str, Any]) -> str | None:
    """The file that the project's own commands write, under whatever setting."""
    fits = re.compile("MAINTENANCE.*(FILE|PATH)")
    asked = []
    for name, app in commands.items():
        if "maintenance" not in name or not isinstance(app, str):
            continue
        try:
            spec: Any = importlib.util.find_spec("%s.management.commands.%s" % (app, name))
            source = spec.loader.get_source(spec.name) or ""
        except Exception:  # A package of its own making; its setting may still be found by its name.
            continue
        asked += [found for found in re.findall(r"\b[A-Z][A-Z0-9_]+\b", source) if fits.search(found)]
    # A name that no command has may be of another version, or of something else.
    for names in (asked, [name for name in dir(settings) if fits.search(name)]):
        values = {str(value) for value in (getattr(settings, name, None) for name in names) if is_path(value)}
        if values:
            return values.pop() if len(values) == 1 else None
    return None


def is_path(value: object) -> bool:
    """Tells whether a setting can be the name of a file."""
    return bool(value) and isinstance(value, (str, os.PathLike))


@answers("facts")
def do_facts(request: Json) -> Json:
    """Describes the site."""
    import django
    from django.conf import settings
    from django.core.management import get_commands
    from django.db import connections

    module = sys.modules.get(os.environ.get("DJANGO_SETTINGS_MODULE", ""))
    status = maintenance_status_file(settings, get_commands())
    return {
        "django": django.get_version(),
        "python": "%d.%d.%d" % sys.version_info[:3],
        "settings": os.environ.get("DJANGO_SETTINGS_MODULE", ""),
        "settings_file": getattr(module, "__file__", None),
        "base": os.getcwd(),
        "time_zone": str(settings.TIME_ZONE) if settings.TIME_ZONE else None,
        "debug": bool(settings.DEBUG),
        "allowed_hosts": [str(host) for host in settings.ALLOWED_HOSTS],
        "wsgi_application": getattr(settings, "WSGI_APPLICATION", None),
        "apps": apps_names(),
        "static_files": static_facts(settings),
        "uploads": upload_directories(settings),
        "databases": [database_facts(alias) for alias in sorted(connections)],
        "maintenance_status_file": status,
        "commands": sorted(get_commands()),
        "modules": first_party_modules(),
    }


@answers("login_url")
def do_login_url(request: Json) -> Json:
    """Returns where the site sends those who are not logged in."""
    from django.conf import settings
    from django.shortcuts import resolve_url

    try:
        return {"path": str(resolve_url(settings.LOGIN_URL))}
    except Exception:  # No such page, or a URL configuration that `check` reports.
        return {"path": None}


@answers("ping")
def do_ping(request: Json) -> Json:
    """Answers, to show that the process lives."""
    return {}
