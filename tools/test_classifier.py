"""The same as `detector classify`."""

from detector.commands.classify import main

if __name__ == "__main__":
    main()
