"""One file per stage: read manifests, do the work, commit a manifest."""
