"""One run: assembled, stepped, validated, recorded, saved and resumed.

May import: evaluation, artefact and what stands below them.
"""
