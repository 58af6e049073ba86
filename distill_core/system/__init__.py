"""This machine: its files, cache, memory, cores and cards.

May import: registry alone.
"""
