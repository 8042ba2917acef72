"""`python -m calotte`: the command line."""

from calotte.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
