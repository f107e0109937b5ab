"""The component `collect_labels`; importing it loads no library of ours."""
