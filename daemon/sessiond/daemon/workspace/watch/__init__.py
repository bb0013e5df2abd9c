"""Tells that files of a workspace have changed. Begin at `watcher.py`."""
