"""Pages about runs: one HTML file that needs nothing else, and the time-lapse."""
