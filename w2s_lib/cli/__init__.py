"""The command line: files in, text or JSON out. `python -m w2s_lib` calls it."""
