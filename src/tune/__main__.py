import sys

from tune.cli.main import main

sys.exit(main())
