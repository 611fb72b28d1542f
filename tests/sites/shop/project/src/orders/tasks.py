from celery import shared_task
from django.conf import settings
from orders.models import Order
from orders.views import RELEASE


@shared_task
def count():
    (settings.SPOOL / "counted").write_text(f"release {RELEASE}, {Order.objects.count()} orders")
