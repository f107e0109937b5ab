"""Embedded twins of what a cluster provides."""
