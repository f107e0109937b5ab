"""The component `prepare`; importing it loads no library of ours."""
