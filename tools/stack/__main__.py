"""`scripts/stack`: the command line of the stack."""

from tools.stack.cli import main

if __name__ == "__main__":
    main(prog_name="scripts/stack")
