"""Pages about runs: one HTML file that needs nothing else, and the time-lapse.

May import: run and what stands below it.
"""
