"""The same as `detector pretrain`."""

from detector.commands.pretrain import main

if __name__ == "__main__":
    main()
