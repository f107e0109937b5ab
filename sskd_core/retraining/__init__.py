"""Going on from a champion: what is new, what stands, and the experiment that does the rest."""
