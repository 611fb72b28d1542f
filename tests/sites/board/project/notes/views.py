from django.http import HttpResponse
from django.templatetags.static import static
from notes.models import Note

RELEASE = "1"


def home(request):
    return HttpResponse(f"release {RELEASE}, {Note.objects.count()} notes, {static('board.js')}")
