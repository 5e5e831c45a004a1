"""Who may train, by name; apart from the executors, so that a command line need not load them."""

NAMES = ("process", "serial", "ray")
