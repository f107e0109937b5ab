"""The component `refine`; importing it loads no library of ours."""
