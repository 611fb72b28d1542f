from django.db import migrations


def sign(apps, schema_editor):
    Entry = apps.get_model("guestbook", "Entry")
    for entry in Entry.objects.filter(signature=""):
        entry.signature = "".join(word[0] for word in entry.author.split())[:8].upper()
        entry.save(update_fields=["signature"])


def unsign(apps, schema_editor):
    apps.get_model("guestbook", "Entry").objects.update(signature="")


class Migration(migrations.Migration):
    dependencies = [("guestbook", "0003_reply")]

    operations = [migrations.RunPython(sign, unsign)]
