"""Distillation algorithms, by family."""
