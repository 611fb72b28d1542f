from django.http import HttpResponse
from orders.models import Order

RELEASE = "1"


def home(request):
    return HttpResponse(f"release {RELEASE}, {Order.objects.count()} orders")
