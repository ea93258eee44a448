"""``python -m rynn_brain_ros.cli``"""

import sys

from rynn_brain_ros.cli import main

if __name__ == "__main__":
    sys.exit(main())
