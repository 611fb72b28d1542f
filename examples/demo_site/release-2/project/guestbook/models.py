from django.db import models


class Entry(models.Model):
    author = models.CharField(max_length=80)
    text = models.TextField()
    written = models.DateTimeField(auto_now_add=True)
    signature = models.CharField(max_length=8, default="")

    class Meta:
        ordering = ["-pk"]
        indexes = [models.Index(fields=["author"], name="entry_author")]

    def __str__(self):
        return f"{self.author}: {self.text[:40]}"

    @staticmethod
    def initials(author):
        return "".join(word[0] for word in author.split())[:8].upper()


class Reply(models.Model):
    entry = models.ForeignKey(Entry, on_delete=models.CASCADE, related_name="replies")
    text = models.TextField()
    written = models.DateTimeField(auto_now_add=True)
