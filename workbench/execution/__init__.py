"""Training of the runs that a store lacks: tasks, executors, forecasts, the runner."""
