"""The command's entry point."""


def main() -> None:
    """Run the orasfs command."""
    raise NotImplementedError
