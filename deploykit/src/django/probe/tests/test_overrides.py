"""Settings that a rehearsal overrides."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from deploykit_probe.overrides import LOCAL_CACHE, LOCAL_MAIL, override, overrides


def test_what_a_server_keeps_is_kept_in_memory() -> None:
    """Only that: a cache in the database or in files is a copy already."""
    redis = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1/1", "TIMEOUT": 5, "OPTIONS": {"x": 1}}
    table = {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "cache"}
    settings = SimpleNamespace(
        CACHES={"default": redis, "table": table},
        CHANNEL_LAYERS={"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {}}},
        CELERY_BROKER_URL="redis://:secret@queue/0",
        CELERY_RESULT_BACKEND="django-db",
    )
    assert overrides(settings) == {
        "EMAIL_BACKEND": LOCAL_MAIL,
        "CACHES": {
            "default": {"BACKEND": LOCAL_CACHE, "LOCATION": "deploykit-default", "TIMEOUT": 5},
            "table": table,
        },
        "CHANNEL_LAYERS": {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
        "CELERY_BROKER_URL": "memory://",
    }
    assert overrides(SimpleNamespace()) == {"EMAIL_BACKEND": LOCAL_MAIL}


def test_the_settings_module_is_overridden_too(monkeypatch: pytest.MonkeyPatch, packages: Path) -> None:
    """Code that imports the settings' module sees the same."""
    monkeypatch.syspath_prepend(str(packages))
    from django.conf import LazySettings

    module = ModuleType("settings_of_a_test")
    vars(module).update(EMAIL_BACKEND="django.core.mail.backends.smtp.EmailBackend", SECRET_KEY="x", USE_TZ=True)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", module.__name__)
    monkeypatch.setattr(LazySettings, "_setup", LazySettings._setup)
    override()
    settings = LazySettings()
    assert settings.EMAIL_BACKEND == LOCAL_MAIL
    assert vars(module)["EMAIL_BACKEND"] == LOCAL_MAIL
