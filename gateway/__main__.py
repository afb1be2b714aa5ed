"""``python -m gateway`` is ``sms-gateway serve``."""

import sys

from gateway.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["serve"]))
