"""What each command does, without the words of the command line.

May import: report, export, run and what stands below them.
"""
