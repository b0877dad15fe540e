"""`python -m rowmill` is `rowmill`."""

from rowmill.interface.cli import main

if __name__ == "__main__":
    main()
