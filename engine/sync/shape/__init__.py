"""Shapes records: transform and fields."""
