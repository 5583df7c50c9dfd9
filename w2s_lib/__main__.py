"""python -m w2s_lib audit FILE"""

import sys

from . import audit

if __name__ == "__main__":
    if sys.argv[1:2] != ["audit"]:
        sys.exit("usage: python -m w2s_lib audit FILE [--probabilities] [--json]")
    sys.exit(audit.main(sys.argv[2:]))
