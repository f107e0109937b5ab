"""Bytes: the object store, digests, manifests, the commit protocol and the local cache."""
