"""The `sskd` command."""
