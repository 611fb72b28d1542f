"""Redis servers that settings name."""

from __future__ import annotations

from types import SimpleNamespace

from deploykit_probe.redis_servers import addresses, is_served, quoted


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
