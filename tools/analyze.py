"""The same as `detector analyze`."""

from detector.commands.analyze import main

if __name__ == "__main__":
    main()
