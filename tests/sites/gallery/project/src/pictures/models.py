from django.db import models


class Picture(models.Model):
    text = models.TextField()
