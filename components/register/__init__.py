"""The component `register`; importing it loads no library of ours."""
