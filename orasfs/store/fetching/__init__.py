"""Bringing blobs in: who waits for which bytes, which streams fetch them, and how far they are."""
