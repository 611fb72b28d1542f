"""Runs inside the site's own Python: answers questions about the booted site, one JSON line each.

The modules are sent over the standard input, so nothing of them lies on the site's disk. They keep to Python 3.8, to its
standard library, and to what Django 3.2 to 6 have in common.
"""
