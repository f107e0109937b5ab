"""Networks: the protocol that the engine speaks, one file per family, safe weight loading."""
