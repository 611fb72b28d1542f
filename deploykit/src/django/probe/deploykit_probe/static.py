"""Static files."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Callable, Iterator

from .beside import beside
from .errors import Refused, guarded
from .kinds import Json
from .registry import answers
from .site import apps_names, static_backend


def need_static() -> None:
    """Refuses where static files are not installed."""
    if "django.contrib.staticfiles" not in apps_names():
        raise Refused("no_static")


def sources() -> tuple[dict[str, str | None], list[str]]:
    """Each name that collectstatic would collect, with the file that it comes from; the first finder wins."""
    from django.apps import apps
    from django.contrib.staticfiles.finders import get_finders

    patterns = list({os.path.normpath(p) for p in apps.get_app_config("staticfiles").ignore_patterns})
    found = {}
    directories = set()
    for finder in get_finders():
        for path, storage in finder.list(patterns):
            name = os.path.join(storage.prefix, path) if getattr(storage, "prefix", None) else path
            name = name.replace(os.sep, "/")
            if name in found:
                continue
            try:
                found[name] = os.path.abspath(storage.path(path))
                directories.add(os.path.basename(os.path.abspath(storage.path(""))))
            except NotImplementedError:
                found[name] = None
    return found, sorted(directories)


@answers("static_sources")
def do_static_sources(request: Json) -> Json:
    """Says what `collectstatic` would collect and from where."""
    from django.conf import settings

    need_static()
    found, directories = guarded("static", sources)
    backend = static_backend(settings)
    return {"sources": found, "directories": directories, "storage": backend, "incremental": replaces_files(backend)}


# What every class has of its own.
OF_ANY_CLASS = {
    "__module__",
    "__qualname__",
    "__doc__",
    "__dict__",
    "__weakref__",
    "__annotations__",
    "__firstlineno__",
    "__static_attributes__",
}


def replaces_files(backend: str | None) -> bool:
    """Whether what collects removes a file before it writes another one in its place: the storages of Django and
    whitenoise do (but for what whitenoise compresses), and so do classes that only set their options."""
    from django.core.management import get_commands
    from django.utils.module_loading import import_string

    if not backend or get_commands().get("collectstatic") != "django.contrib.staticfiles":
        return False
    for kind in guarded("static", import_string, backend).__mro__:
        if kind is object or kind.__module__.split(".")[0] in ("django", "whitenoise"):
            continue
        own = (value for name, value in vars(kind).items() if name not in OF_ANY_CLASS)
        if any(callable(value) or hasattr(value, "__get__") for value in own):
            return False
    return True


def forget_static_storage() -> None:
    """Makes Django build the storage anew: it may have been built from the live STATIC_ROOT while apps were imported."""
    from django.contrib.staticfiles import storage
    from django.utils.functional import empty

    storage.staticfiles_storage._wrapped = empty
    try:
        from django.core.files.storage import storages
    except ImportError:
        return
    storages._storages.pop("staticfiles", None)


def location_of(storage: Any) -> str | None:
    """Returns the directory of a storage; `None`: it has none."""
    try:
        location: str = os.path.realpath(storage.path(""))
        return location
    except Exception:
        return None


@contextlib.contextmanager
def what_is_there_is_collected() -> Iterator[None]:
    """Lets collectstatic leave what it finds in its directory: whatever is there equals its source."""
    from django.contrib.staticfiles.management.commands.collectstatic import Command

    def delete_file(self: Any, path: str, prefixed_path: str, source_storage: Any) -> bool:
        """Keeps a file that is there, and says that nothing need be copied."""
        if not self.storage.exists(prefixed_path):
            return True
        self.unmodified_files.append(prefixed_path)
        return False

    old = Command.delete_file
    Command.delete_file = delete_file
    try:
        yield
    finally:
        Command.delete_file = old


def collect(target: str, seeded: bool) -> None:
    """Collects into this directory, and refuses where the storage would write somewhere else."""
    from django.conf import settings
    from django.contrib.staticfiles.storage import staticfiles_storage
    from django.core.management import call_command

    wanted = os.path.realpath(target)
    manifest = getattr(staticfiles_storage, "manifest_storage", None) or staticfiles_storage
    for storage in (staticfiles_storage, manifest):
        location = location_of(storage)
        if location is None or (location + os.sep).find(wanted + os.sep) != 0:
            raise Refused("not_relocatable", storage=static_backend(settings) or "", location=location)
    with what_is_there_is_collected() if seeded else contextlib.nullcontext():
        call_command("collectstatic", interactive=False, verbosity=1, clear=False, skip_checks=True)


# What waits for the end of the collection under way, and answers.
COLLECTION: Callable[[], Json] | None = None


def collect_into(target: str, seeded: bool) -> Json:
    """Collects with this STATIC_ROOT, and sets the old one again."""
    from django.conf import settings

    old = settings.STATIC_ROOT
    settings.STATIC_ROOT = target
    forget_static_storage()
    try:
        guarded("collect", collect, target, seeded)
    finally:
        settings.STATIC_ROOT = old
        forget_static_storage()
    return {}


@answers("begin_collect")
def do_begin_collect(request: Json) -> Json:
    """Begins to collect the static files beside other work."""
    global COLLECTION
    need_static()
    COLLECTION = beside("collect", request["nice"], collect_into, request["target"], request["seeded"])
    return {}


@answers("end_collect")
def do_end_collect(request: Json) -> Json:
    """Waits until the static files are collected."""
    if COLLECTION is None:
        raise RuntimeError("no collection is under way")
    return COLLECTION()
