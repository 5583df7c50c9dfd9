"""What the book computes with the library: a result store, half-blind worlds, data sets, features, the protocol."""

from importlib.util import find_spec

for package, name in {"sklearn": "scikit-learn", "joblib": "joblib"}.items():
    if find_spec(package) is None:
        raise ImportError(f"w2s_lib.experiments needs {name}: pip install 'w2s_lib[experiments]'")
