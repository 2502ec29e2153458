"""The same as `detector test`."""

from detector.commands.test import main

if __name__ == "__main__":
    main()
