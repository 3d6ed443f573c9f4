"""`python -m stagegate`: the command line."""

from stagegate.cli import main

main()
