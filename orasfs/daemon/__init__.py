"""The mounted process: its configuration, its composition, its start and end."""
