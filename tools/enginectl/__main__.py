"""`scripts/enginectl`: the command line of the replicas."""

from tools.enginectl.cli import COMPLETE_VARIABLE, main

if __name__ == "__main__":
    main(prog_name="scripts/enginectl", complete_var=COMPLETE_VARIABLE)
