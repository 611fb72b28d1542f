from django.urls import path

from . import views

urlpatterns = [
    path("", views.home, name="home"),
    path("about/", views.about, name="about"),
    path("entries/", views.write, name="write"),
    path("version/", views.version, name="version"),
]
