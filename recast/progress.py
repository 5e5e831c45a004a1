"""How long work tells whoever waits for it how far it is."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called with how much is done, how much there is in all, and what is going on. What is counted
(steps, rows, bytes) is said by whoever calls it."""
