"""`python -m alexnet_cli` is `alexnet`."""

from alexnet_cli.cli.app import main

if __name__ == "__main__":
    main()
