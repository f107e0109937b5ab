"""The component `train_supervised`; importing it loads no library of ours."""
