import sys

from tune.cli.main import entry

sys.exit(entry())
