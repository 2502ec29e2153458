"""The same as `detector info`."""

from detector.commands.info import main

if __name__ == "__main__":
    main()
