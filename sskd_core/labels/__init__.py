"""Pseudo-label shards: schema, writer, reader, statistics, health checks, contact sheet."""
