"""Overrides settings in a rehearsal: mail, and caches and queues whose servers it does not have."""

from __future__ import annotations

import sys
from typing import Any, Callable, Sequence

from .kinds import Settings
from .redis_servers import is_served

LOCAL_CACHE = "django.core.cache.backends.locmem.LocMemCache"
LOCAL_MAIL = "django.core.mail.backends.locmem.EmailBackend"

# Parts of the names of cache backends that need a server.
SERVERS = ("redis", "memcached", "valkey")

# The URL schemes of queues that need a server.
QUEUES = ("redis", "rediss", "valkey", "amqp", "amqps", "pyamqp", "sqs")


# Options of a connection that a proxy on this machine cannot meet, beside those that begin with `ssl`.
OF_SERVER = (
    "channel_binding", "gssencmode", "require_auth", "requirepeer", "assume_role",
    "auth_plugin_map", "get_server_public_key", "server_public_key",
)  # fmt: skip


def override(plain: Sequence[str] = (), redis: Sequence[str] = ()) -> None:
    """Patches the loading of settings so that nothing is sent to a server outside this process.

    The databases with the aliases `plain` are connected to without TLS, and as no other role. `redis` are the addresses of
    Redis servers that are there.
    """
    from django.conf import LazySettings

    original: Callable[..., None] = LazySettings._setup

    def setup(self: Any, name: str | None = None) -> None:
        """Loads the settings and overrides some, in the settings module, too."""
        original(self, name)
        changed = dict(overrides(self._wrapped, redis), **plain_databases(self._wrapped, plain))
        module = sys.modules.get(getattr(self._wrapped, "SETTINGS_MODULE", None) or "")
        for key, value in changed.items():
            setattr(self._wrapped, key, value)
            if module is not None and hasattr(module, key):
                setattr(module, key, value)

    LazySettings._setup = setup


def overrides(settings: Settings, redis: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the settings to override, with their values. The Redis servers at these addresses are there."""
    changed: dict[str, Any] = {"EMAIL_BACKEND": LOCAL_MAIL}
    caches = getattr(settings, "CACHES", None)
    if isinstance(caches, dict):
        changed["CACHES"] = {alias: cache(alias, one, redis) for alias, one in caches.items()}
    layers = getattr(settings, "CHANNEL_LAYERS", None)
    if isinstance(layers, dict):
        memory = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
        changed["CHANNEL_LAYERS"] = {alias: memory if asks_a_server(one, redis) else one for alias, one in layers.items()}
    for name in ("CELERY_BROKER_URL", "BROKER_URL"):
        if is_remote(getattr(settings, name, None), redis):
            changed[name] = "memory://"
    for name in ("CELERY_RESULT_BACKEND", "RESULT_BACKEND"):
        if is_remote(getattr(settings, name, None), redis):
            changed[name] = "cache+memory://"
    return changed


def plain_databases(settings: Settings, plain: Sequence[str]) -> dict[str, Any]:
    """Returns the databases, some of them without requirements of their server; nothing if there are none to change."""
    databases = getattr(settings, "DATABASES", None)
    if not plain or not isinstance(databases, dict):
        return {}
    changed = dict(databases)
    for alias in plain:
        if alias in changed:
            options = changed[alias].get("OPTIONS") or {}
            kept = {name: value for name, value in options.items() if name not in OF_SERVER and not name.startswith("ssl")}
            if "mysql" not in str(changed[alias].get("ENGINE")):
                # By default, only clients of PostgreSQL ask their variables.
                kept["sslmode"] = "disable"
            changed[alias] = dict(changed[alias], OPTIONS=kept)
    return {"DATABASES": changed}


def cache(alias: str, one: Any, redis: Sequence[str]) -> Any:
    """Returns a cache in place of this one that needs no server."""
    if not asks_a_server(one, redis):
        return one
    kept = {key: one[key] for key in ("TIMEOUT", "KEY_PREFIX", "VERSION", "KEY_FUNCTION") if key in one}
    return dict(kept, BACKEND=LOCAL_CACHE, LOCATION="deploykit-%s" % alias)


def asks_a_server(one: Any, redis: Sequence[str]) -> bool:
    """Tells whether a cache or a channel layer needs a server that is not there."""
    backend = str(one.get("BACKEND", "")) if isinstance(one, dict) else ""
    return any(name in backend.lower() for name in SERVERS) and not is_served(one, redis)


def is_remote(url: Any, redis: Sequence[str]) -> bool:
    """Tells whether a queue needs a server that is not there."""
    needs = isinstance(url, str) and url.split(":", 1)[0].split("+", 1)[0] in QUEUES
    return needs and not is_served(url, redis)
