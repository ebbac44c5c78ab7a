"""Run the command as `python -m orasfs`."""

from orasfs.cli.main import main

if __name__ == "__main__":
    main()
