"""`python -m calotte`: the command line."""

from calotte.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
