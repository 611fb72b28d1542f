import os

import django
import humanize
from django.http import JsonResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from config.release import RELEASE

from .models import Entry


@require_GET
def home(request):
    entries = Entry.objects.all()
    shown = [(entry, humanize.naturalday(timezone.localdate(entry.written))) for entry in entries[:10]]
    count = humanize.intcomma(entries.count())
    return render(request, "guestbook/home.html", {"count": count, "entries": shown})


@require_GET
def about(request):
    return render(request, "guestbook/about.html")


@csrf_exempt
@require_POST
def write(request):
    author, text = request.POST.get("author", ""), request.POST.get("text", "")
    if not author or not text:
        return JsonResponse({"error": "author and text are wanted"}, status=400)
    entry = Entry.objects.create(author=author, text=text, signature=Entry.initials(author))
    return JsonResponse({"id": entry.pk}, status=201)


@require_GET
def version(request):
    """Which code answers: lets a test see that a restart brought the new one."""
    return JsonResponse(
        {
            "release": RELEASE,
            "pid": os.getpid(),
            "django": django.get_version(),
            "humanize": humanize.__version__,
        }
    )
