"""Typed configuration: one strict model per concern, one experiment file that holds them all."""
