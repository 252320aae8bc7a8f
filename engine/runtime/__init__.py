"""Runs things: one run, the schedule, child processes."""
