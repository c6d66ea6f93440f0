"""`python -m hierlit`."""

from hierlit.cli import main

main()
