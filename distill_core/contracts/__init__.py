"""What components are given, and what they give back: with `hookspecs`, the minimal core.

May import: registry alone.
"""
