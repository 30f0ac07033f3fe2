"""``python -m thermocancer`` is the same as ``thermocancer``."""

from thermocancer.cli import main

if __name__ == "__main__":
    main()
