"""Tests of the program that runs in sites."""
