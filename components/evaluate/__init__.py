"""The component `evaluate`; importing it loads no library of ours."""
