"""Losses: the set criterion and the terms that the methods add to it."""
