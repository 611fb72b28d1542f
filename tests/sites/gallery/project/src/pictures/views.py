from django.http import HttpResponse
from pictures.models import Picture

RELEASE = "1"


def home(request):
    return HttpResponse(f"release {RELEASE}, {Picture.objects.count()} pictures")
