"""Pages about runs: one self-contained HTML file, and the time-lapse.

May import: run and what stands below it.
"""
