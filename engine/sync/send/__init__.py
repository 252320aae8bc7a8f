"""Sends batches: chunks, calls, bisection of refused batches."""
