"""`python -m services.cli` is `strop`."""

from services.cli import main

if __name__ == "__main__":
    main()
