from .base import *  # noqa: F403

DEBUG = False
ALLOWED_HOSTS = ["board.example"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ["DATABASE_NAME"],  # noqa: F405
        "USER": os.environ["DATABASE_NAME"],  # noqa: F405
        "PASSWORD": os.environ["DATABASE_PASSWORD"],  # noqa: F405
        "HOST": os.environ["DATABASE_HOST"],  # noqa: F405
    }
}
STATIC_ROOT = os.environ["STATIC_ROOT"]  # noqa: F405
STORAGES = {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"}}
