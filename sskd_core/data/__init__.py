"""Data sets: formats, the index, splits, transforms, samplers, loaders, and the demo scenes."""
