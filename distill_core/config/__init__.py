"""The settings of a run: the model, its sections, and how presets, files and options merge.

May import: system, hookspecs and registry.
"""
