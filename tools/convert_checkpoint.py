"""The same as `detector convert`."""

from detector.commands.convert import main

if __name__ == "__main__":
    main()
