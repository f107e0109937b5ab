"""Training in several processes: the group that they form, what starts them, and several machines."""
