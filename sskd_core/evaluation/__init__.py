"""Figures of merit: instance AP and what is drawn from it."""
