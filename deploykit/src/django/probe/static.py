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
    folders = set()
    for finder in get_finders():
        for path, storage in finder.list(patterns):
            name = os.path.join(storage.prefix, path) if getattr(storage, "prefix", None) else path
            name = name.replace(os.sep, "/")
            if name in found:
                continue
            try:
                found[name] = os.path.abspath(storage.path(path))
                folders.add(os.path.basename(os.path.abspath(storage.path(""))))
            except NotImplementedError:
                found[name] = None
    return found, sorted(folders)


def do_static_sources(request):
    from django.conf import settings

    need_static()
    found, folders = guarded("static", sources)
    return {"sources": found, "folders": folders, "storage": static_backend(settings)}


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


def collect(target):
    from django.conf import settings
    from django.contrib.staticfiles.storage import staticfiles_storage
    from django.core.management import call_command

    wanted = os.path.realpath(target)
    manifest = getattr(staticfiles_storage, "manifest_storage", None) or staticfiles_storage
    for storage in (staticfiles_storage, manifest):
        location = location_of(storage)
        if location is None or (location + os.sep).find(wanted + os.sep) != 0:
            raise Refused("not_relocatable", storage=static_backend(settings) or "", location=location)
    call_command("collectstatic", interactive=False, verbosity=1, clear=False, skip_checks=True)


def collect_into(target):
    from django.conf import settings

    old = settings.STATIC_ROOT
    settings.STATIC_ROOT = target
    forget_static_storage()
    try:
        guarded("collect", collect, target)
    finally:
        settings.STATIC_ROOT = old
        forget_static_storage()
    return {}


# What waits for the end of the collection under way, and answers.
COLLECTION = None


def do_begin_collect(request):
    global COLLECTION
    need_static()
    COLLECTION = beside("collect", request["nice"], collect_into, request["target"])
    return {}


def do_end_collect(request):
    return COLLECTION()
