"""python -m w2s_lib audit FILE, python -m w2s_lib evidence"""

import importlib
import sys

USAGE = """usage: python -m w2s_lib audit FILE [--probabilities] [--json]
       python -m w2s_lib evidence [--data NAME ...] [--size full|default] [--jobs N]"""

if __name__ == "__main__":
    if sys.argv[1:2] not in (["audit"], ["evidence"]):
        sys.exit(USAGE)
    module = {"audit": "w2s_lib.cli.audit", "evidence": "w2s_lib.experiments.sweeps"}[sys.argv[1]]
    sys.exit(importlib.import_module(module).main(sys.argv[2:]))
