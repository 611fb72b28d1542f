from django.db import models


class Entry(models.Model):
    author = models.CharField(max_length=80)
    text = models.TextField()
    written = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]
        indexes = [models.Index(fields=["author"], name="entry_author")]

    def __str__(self):
        return f"{self.author}: {self.text[:40]}"
