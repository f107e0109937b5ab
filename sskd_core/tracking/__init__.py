"""MLflow: runs, lineage, registry, promotion gate."""
