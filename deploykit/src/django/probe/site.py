# Runs inside the site's own Python: answers questions about the booted site, one JSON line each.
#
# The parts of this program are joined and sent over the standard input, so nothing of it lies on the site's disk.
# It keeps to Python 3.8 and to what Django 3.2 to 6 have in common. The loader leaves `requests` (the private
# copy of the standard input) behind; the first line after this program is the configuration.

import collections
import contextlib
import hashlib
import importlib
import importlib.util
import io
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
import traceback

ANSWERS = os.fdopen(os.dup(1), "wb", 0)


class Refused(Exception):
    """An answer that is an error of ours, not one that the site raised."""

    def __init__(self, kind, **fields):
        super().__init__(kind)
        self.fields = dict(fields, kind=kind)


class Failed(Exception):
    """An exception of the site, with what was being done."""

    def __init__(self, kind, error, **fields):
        super().__init__(kind)
        self.error = error
        self.fields = dict(fields, kind=kind)


class Output(io.RawIOBase):
    """The log. When nobody reads it any more it swallows what comes: a print must never fail a migration."""

    def writable(self):
        return True

    def fileno(self):
        return 2

    def isatty(self):
        return False

    def write(self, data):
        view = memoryview(data).cast("B")
        try:
            return os.write(2, view)
        except OSError:
            return len(view)


def seal():
    """Sends what the site prints to the log, and gives it nothing to read."""
    os.dup2(2, 1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.stdin = open(0, closefd=False)
    for name in ("stdout", "stderr"):
        buffer = io.BufferedWriter(Output(), 8192)
        stream = io.TextIOWrapper(buffer, "utf-8", "backslashreplace", line_buffering=True, write_through=True)
        setattr(sys, name, stream)
        setattr(sys, "__%s__" % name, stream)


def send(value):
    # A byte of a file name that is not UTF-8 is a lone surrogate here, and a NUL with two digits in JSON.
    text = json.dumps(value, ensure_ascii=False, default=str)
    text = re.sub("[\udc80-\udcff]", lambda found: "\\u0000%02x" % (ord(found.group()) - 0xDC00), text)
    data = text.encode("utf-8", "replace") + b"\n"
    try:
        while data:
            data = data[ANSWERS.write(data):]
    except OSError:
        # Nobody listens any more. Whatever runs goes on to its end; the closed input ends the process then.
        pass


def received(value):
    """What was sent, with the names of files as Python has them."""
    if isinstance(value, str):
        return re.sub("\0([0-9a-f]{2})", lambda found: chr(0xDC00 + int(found.group(1), 16)), value)
    if isinstance(value, list):
        return [received(one) for one in value]
    if isinstance(value, dict):
        return {name: received(one) for name, one in value.items()}
    return value


def readable(text):
    """A text for people: a byte of a file name that is not UTF-8 is shown as such."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def text_of(error):
    try:
        return readable(str(error))
    except Exception:
        return ""


def described(error):
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = kind.__module__ + "." + name
    found = traceback.TracebackException(kind, error, error.__traceback__)
    ours = ("<deploykit>", "<string>", "<frozen runpy>", runpy.__file__)
    kept = [frame for frame in found.stack if frame.filename not in ours and "importlib" not in frame.filename]
    found.stack = traceback.StackSummary.from_list(kept)
    lines = "".join(found.format()).rstrip().split("\n")
    shown = [without_passwords(line.encode("utf-8", "backslashreplace").decode("utf-8")) for line in lines[-30:]]
    message = without_passwords(text_of(error)) + lock_holders(error)
    return {"type": name, "message": message, "traceback": shown}


def without_passwords(text):
    """Hides the passwords of the databases, which need not stand in a file of secrets."""
    settings = getattr(sys.modules.get("django.conf"), "settings", None)
    if not getattr(settings, "configured", False):
        return text
    for database in (getattr(settings, "DATABASES", None) or {}).values():
        password = str(database.get("PASSWORD") or "")
        if len(password) >= 6:
            text = text.replace(password, "***")
    return text


def failure(error):
    if isinstance(error, Refused):
        return {"error": error.fields}
    if isinstance(error, Failed):
        return {"error": dict(described(error.error), **error.fields)}
    return {"error": dict(described(error), kind="raised")}


def guarded(kind, work, *args, **fields):
    try:
        return work(*args)
    except (Refused, Failed):
        raise
    except BaseException as error:
        raise Failed(kind, error, **fields)


# --- what the site is


def first_party_modules():
    """Where the modules that no package brought were really imported from."""
    import site

    paths = sysconfig.get_paths()
    bases = sysconfig.get_paths(vars={"base": sys.base_prefix, "platbase": sys.base_prefix})
    foreign = set(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    foreign |= set(bases[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    foreign |= set(site.getsitepackages())
    foreign = tuple(os.path.join(path, "") for path in foreign if path)
    found = {}
    for name, module in sorted(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if not path or name in ("__main__", "__mp_main__") or not isinstance(path, str):
            continue
        path = os.path.abspath(path)
        if not path.startswith(foreign):
            found[name] = path
    return found


def static_backend(settings):
    storages = getattr(settings, "STORAGES", None)
    if isinstance(storages, dict) and "staticfiles" in storages:
        return storages["staticfiles"].get("BACKEND")
    return getattr(settings, "STATICFILES_STORAGE", None)


def static_facts(settings):
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


def upload_directories(settings):
    found = [getattr(settings, "MEDIA_ROOT", None)]
    for alias, storage in sorted((getattr(settings, "STORAGES", None) or {}).items()):
        if alias != "staticfiles" and isinstance(storage, dict) and is_local(storage.get("BACKEND")):
            found.append((storage.get("OPTIONS") or {}).get("location"))
    return sorted(set(os.path.abspath(str(directory)) for directory in found if directory))


def is_local(backend):
    """Tells whether a storage writes to a directory: the location of another one is none of this machine."""
    from django.core.files.storage import FileSystemStorage
    from django.utils.module_loading import import_string

    try:
        kind = import_string(backend)
    except Exception:
        return False
    return isinstance(kind, type) and issubclass(kind, FileSystemStorage)


def apps_names():
    from django.apps import apps

    return [config.name for config in apps.get_app_configs()]


def database_facts(alias):
    from django.db import connections

    settings = connections.settings[alias]
    facts = {"alias": alias, "engine": settings.get("ENGINE") or "", "vendor": "", "file": None}
    facts["vendor"] = guarded("database", lambda: connections[alias].vendor, database=alias)
    if facts["vendor"] == "sqlite":
        facts["file"] = sqlite_file(connections[alias])
    return facts


def sqlite_file(connection):
    name = str(connection.settings_dict["NAME"])
    if not name or ":memory:" in name or name.startswith("file:"):
        return None
    return os.path.abspath(name)


def maintenance_status_file(settings, commands):
    """The file that the project's own commands write, under whatever setting."""
    fits = re.compile("MAINTENANCE.*(FILE|PATH)")
    asked = []
    for name, app in commands.items():
        if "maintenance" not in name or not isinstance(app, str):
            continue
        try:
            spec = importlib.util.find_spec("%s.management.commands.%s" % (app, name))
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


def is_path(value):
    return bool(value) and isinstance(value, (str, os.PathLike))


def do_facts(request):
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


def do_command(request):
    from django.core.management import call_command

    call_command(*request["argv"])
    return {}


# --- does it work


def load_urls(settings):
    from django.urls import get_resolver

    importlib.import_module(settings.ROOT_URLCONF)
    for pattern in get_resolver().url_patterns:
        getattr(pattern, "url_patterns", None)


def load_application(path):
    """Loads what gunicorn would: `module`, `module:name`, or Django's `module.name`."""
    name = "application"
    if ":" in path:
        path, name = path.split(":", 1)
        name = name.split("(")[0].strip() or "application"
    module = importlib.import_module(path)
    for part in name.split("."):
        module = getattr(module, part)


def do_check(request):
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


def do_ping(request):
    return {}
