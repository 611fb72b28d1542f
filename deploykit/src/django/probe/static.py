# --- static files


def need_static():
    if "django.contrib.staticfiles" not in apps_names():
        raise Refused("no_static")


def sources():
    """Each name that collectstatic would collect, with the file that it comes from; the first finder wins."""
    from django.apps import apps
    from django.contrib.staticfiles.finders import get_finders

    patterns = list(set(os.path.normpath(p) for p in apps.get_app_config("staticfiles").ignore_patterns))
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


def do_static_sources(request):
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


def replaces_files(backend):
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


def forget_static_storage():
    """Makes Django build the storage anew: it may have been built from the live STATIC_ROOT while apps were imported."""
    from django.contrib.staticfiles import storage
    from django.utils.functional import empty

    storage.staticfiles_storage._wrapped = empty
    try:
        from django.core.files.storage import storages
    except ImportError:
        return
    storages._storages.pop("staticfiles", None)


def location_of(storage):
    try:
        return os.path.realpath(storage.path(""))
    except Exception:
        return None


@contextlib.contextmanager
def what_is_there_is_collected():
    """Lets collectstatic leave what it finds in its directory: whatever is there equals its source."""
    from django.contrib.staticfiles.management.commands.collectstatic import Command

    def delete_file(self, path, prefixed_path, source_storage):
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


def collect(target, seeded):
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


def collect_into(target, seeded):
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


# What waits for the end of the collection under way, and answers.
COLLECTION = None


def do_begin_collect(request):
    global COLLECTION
    need_static()
    COLLECTION = beside("collect", request["nice"], collect_into, request["target"], request["seeded"])
    return {}


def do_end_collect(request):
    return COLLECTION()
