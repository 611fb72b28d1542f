import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent.parent
DATA = Path(os.environ.get("GALLERY_DATA", BASE_DIR / "data"))
SECRET_KEY = (DATA / "secret.txt").read_text()
DEBUG = False
ALLOWED_HOSTS = ["gallery.example"]
ROOT_URLCONF = "gallery.urls"
WSGI_APPLICATION = "gallery.wsgi.application"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.staticfiles", "pictures"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATA / "gallery.sqlite3"}}
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "static"
