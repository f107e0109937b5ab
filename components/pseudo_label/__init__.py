"""The component `pseudo_label`; importing it loads no library of ours."""
