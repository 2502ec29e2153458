"""The same as `detector predict`."""

from detector.commands.predict import main

if __name__ == "__main__":
    main()
