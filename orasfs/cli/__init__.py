"""The orasfs command: argument parsing and exit codes, nothing else."""
