"""Redis servers that settings name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from deploykit_probe.redis_servers import addresses, is_served, quoted

from .sites import Probe

# A queue whose URLs are none of Django's settings.
QUEUE = """
import celery
app = celery.Celery("queue", broker=["redis://:secret@127.0.0.1:7001/0"], backend="redis://127.0.0.1:7002")
broken = celery.Celery("broken")
broken.config_from_object("nothing.like_it")
"""


def test_the_servers_of_the_settings_are_found() -> None:
    """In caches, channel layers, queues and sessions, and nothing else."""

    class Huey(SimpleNamespace):
        """Huey's own settings."""

        __module__ = "huey.api"

    huey = Huey(storage=SimpleNamespace(pool=SimpleNamespace(connection_kwargs={"host": "huey", "port": 7})))
    settings = SimpleNamespace(
        CACHES={
            "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": ["redis://u:a%2Fb@one:1/0", "redis://two/1"]},
            "plain": {"BACKEND": "redis_cache.RedisCache", "LOCATION": "three:3"},
            "other": {"BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache", "LOCATION": "no:11211"},
            "unix": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "unix:///run/r/r.sock?db=1"},
        },
        CHANNEL_LAYERS={"default": {"CONFIG": {"hosts": [("four", 4)]}}},
        CELERY_BROKER_URL="rediss://five/0",
        CELERY_RESULT_BACKEND="django-db",
        RQ_QUEUES={"low": {"HOST": "six", "PORT": 6, "DB": 0}},
        HUEY=huey,
        EMAIL_HOST="no:25",
        DATABASES={"default": {"HOST": "no", "PORT": 5432}},
        SITE_URL="https://no/",
    )
    found = addresses(settings)
    names = ["one:1", "two:6379", "three:3", "/run/r/r.sock", "five:6379", "four:4", "huey:7", "six:6"]
    assert sorted(one.shown() for one in found) == sorted(names)
    assert [one.shown() for one in found if one.tls] == ["five:6379"]
    assert [(one.user, one.password) for one in found if one.host == "one"] == [("u", "a/b")]


def test_a_value_is_served_if_all_its_servers_are() -> None:
    """A value without servers is not."""
    one = {"LOCATION": ["redis://one/0", "redis://two/0"]}
    assert is_served(one, ["one:6379", "two:6379"])
    assert not is_served(one, ["one:6379"])
    assert not is_served({"LOCATION": "x"}, ["one:6379"])
    assert not is_served("amqp://one/", ["one:6379"])


def test_no_character_of_a_password_has_a_meaning() -> None:
    """For the configuration of Redis."""
    assert quoted('a" #') == '"\\x61\\x22\\x20\\x23"'


def test_the_servers_of_celery_applications_are_found(tmp_path: Path, packages: Path) -> None:
    """They may be configured elsewhere, and one of them wrongly."""
    settings = 'SECRET_KEY = "x"\nINSTALLED_APPS = ["shop"]\nDATABASES = {}\n'
    files = {"config/settings.py": settings, "shop/__init__.py": "from . import queue\n", "shop/queue.py": QUEUE}
    probe = Probe(tmp_path, packages, files)
    scratch = str(tmp_path / "scratch")
    copies = probe.ask("copy_databases", databases=[], limits={}, directory=scratch, nice=0)
    found = copies["redis"] + (copies["in_memory"] or {"servers": []})["servers"]
    assert sorted(found) == ["127.0.0.1:7001", "127.0.0.1:7002"]
    probe.end()
