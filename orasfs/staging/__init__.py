"""Writes before a tag exists: what turns a staged tree into layers and a manifest."""
