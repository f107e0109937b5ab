"""The component `self_train_teacher`; importing it loads no library of ours."""
