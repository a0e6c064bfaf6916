"""``python -m quickstudy``: the command line."""

from quickstudy.cli import main

if __name__ == "__main__":
    main()
