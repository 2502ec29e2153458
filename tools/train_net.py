"""The same as `detector train`."""

from detector.commands.train import main

if __name__ == "__main__":
    main()
