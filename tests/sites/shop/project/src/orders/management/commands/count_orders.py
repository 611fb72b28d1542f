from django.core.management.base import BaseCommand
from orders.models import Order


class Command(BaseCommand):
    def handle(self, **options):
        self.stdout.write(f"{Order.objects.count()} orders")
