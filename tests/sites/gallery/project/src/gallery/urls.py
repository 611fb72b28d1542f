from django.urls import path
from pictures.views import home

urlpatterns = [path("", home)]
