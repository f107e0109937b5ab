"""The component `configure`; importing it loads no library of ours."""
