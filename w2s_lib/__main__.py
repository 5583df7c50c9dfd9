"""python -m w2s_lib audit FILE, python -m w2s_lib evidence"""

import importlib
import sys

USAGE = """usage: python -m w2s_lib audit FILE [--probabilities] [--json]
       python -m w2s_lib evidence [--data NAME ...] [--size full|default] [--jobs N]"""

if __name__ == "__main__":
    if sys.argv[1:2] not in (["audit"], ["evidence"]):
        sys.exit(USAGE)
    sys.exit(importlib.import_module(f"w2s_lib.{sys.argv[1]}").main(sys.argv[2:]))
