from .base import *  # noqa: F403

DEBUG = False
ALLOWED_HOSTS = ["demo.example", "localhost"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}

try:
    from .local import *  # noqa: F403  (the server's own, not in the repository)
except ModuleNotFoundError:
    pass
