"""The command line: files in, words or JSON out. `python -m w2s_lib` calls it."""
