"""The component `distill`; importing it loads no library of ours."""
