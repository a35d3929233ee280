"""`python -m fedray` is the console script."""

from fedray.cli import main

if __name__ == "__main__":
    main()
