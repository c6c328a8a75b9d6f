"""Bulk Data exports to results, on one machine or on Spark."""
