"""Logs, progress and secret masking of a run. An observer may fail quietly; the durable record may not."""
