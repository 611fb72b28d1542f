# --- being asked

# What the second line says.
CONFIGURATION = {}


def let_go():
    """Holds no connection and no lock while it waits."""
    global CHANGING
    CHANGING = False
    connections = getattr(sys.modules.get("django.db"), "connections", None)
    if connections is None:
        return
    try:
        opened = connections.all(initialized_only=True)
    except TypeError:
        opened = connections.all()
    for connection in opened:
        for close in ("close", "close_pool"):
            try:
                getattr(connection, close, lambda: None)()
            except Exception:
                traceback.print_exc()


def serve():
    send({"ok": {"pid": os.getpid()}})
    while True:
        line = requests.readline()
        if not line:
            return
        request = received(json.loads(line.decode("utf-8")))
        with Watched(request.get("database")):
            try:
                answer = {"ok": globals()["do_" + request["do"]](request)}
            except BaseException as error:
                answer = failure(error)
        let_go()
        sys.stdout.flush()
        sys.stderr.flush()
        send(answer)


def booted(called):
    def entry(*args, **kwargs):
        if called:
            return
        called.append(True)
        try:
            guarded("settings", load_settings)
            be_patient(CONFIGURATION["limit"])
            guarded("apps", load_apps)
            let_go()
        except BaseException as error:
            send(failure(error))
            return
        serve()

    return entry


def load_settings():
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured

    name = os.environ.get("DJANGO_SETTINGS_MODULE", "")
    try:
        settings.INSTALLED_APPS
    except ModuleNotFoundError as error:
        if error.name and (name + ".").startswith(error.name + "."):
            raise Failed("no_settings", error, module=name)
        raise Failed("settings", error, module=name)
    except BaseException as error:
        raise Failed("settings" if name else "no_settings", error, module=name)


def load_apps():
    import django

    django.setup()


def boot():
    CONFIGURATION.update(received(json.loads(requests.readline().decode("utf-8"))))
    seal()
    # What Python's own start printed may have left half a line.
    ANSWERS.write(b"\n")
    directory = CONFIGURATION["directory"]
    os.chdir(directory)
    # Python itself puts the real directory of the program there.
    sys.path[0] = os.path.realpath(directory)
    sys.argv = ["manage.py", "deploykit"]
    called = []
    try:
        from django.core import management
    except BaseException as error:
        send(failure(Failed("no_django", error)))
        return
    entry = booted(called)
    management.execute_from_command_line = entry
    management.ManagementUtility.execute = entry
    try:
        runpy.run_path("manage.py", run_name="__main__")
    except BaseException as error:
        if not called:
            send(failure(Failed("manage", error)))
        return
    if not called:
        send({"error": {"kind": "not_called"}})


boot()
ANSWERS.close()
# Threads that the site started must not keep the process; its database connections are closed.
sys.stdout.flush()
sys.stderr.flush()
os._exit(0)
