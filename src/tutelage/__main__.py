"""``python -m tutelage`` is ``tutelage``: what torchrun starts."""

from tutelage.cli.main import main

main()
