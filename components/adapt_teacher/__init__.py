"""The component `adapt_teacher`; importing it loads no library of ours."""
