"""Layers that are directories: unpacked while they pass, or read by parts from an index."""
