"""The component `report`; importing it loads no library of ours."""
