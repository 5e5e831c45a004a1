"""Logs as other people's trainers, trackers and scripts write them, each with what is true of it.

They were written from trainers' sources and users' reports before the checks were run on them.
`cases` says what such a log is made of, `check` reads one and compares; the other modules write
them, by trainer or by subject. `tests/workbench/diagnosis/test_strangers.py` runs them all.
"""
