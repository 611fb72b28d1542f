import json
from pathlib import Path

import pymysql

# mysqlclient's version, which Django asks for.
pymysql.version_info = (2, 2, 1, "final", 0)
pymysql.install_as_MySQLdb()
BASE_DIR = Path(__file__).resolve().parent.parent
local = json.loads(Path("@ROOT@/etc/shop.json").read_text())
SECRET_KEY = local["secret_key"]
DEBUG = local.get("debug", False)
ALLOWED_HOSTS = local["hosts"]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "orders",
]
MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware"]
USE_TZ = True
DATABASES = {"default": local["database"]}
STATIC_URL = "/static/"
STATIC_ROOT = "@ROOT@/static"
SPOOL = Path("@ROOT@/spool")
CELERY_BROKER_URL = "filesystem://"
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "data_folder_in": SPOOL / "queue",
    "data_folder_out": SPOOL / "queue",
    "control_folder": SPOOL / "control",
}
CELERY_BEAT_SCHEDULE = {"count": {"task": "orders.tasks.count", "schedule": 1.0}}
