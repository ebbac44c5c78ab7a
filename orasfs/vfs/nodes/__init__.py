"""One class for each kind of thing that the filesystem shows."""
