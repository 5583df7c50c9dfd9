"""Small preference pairs, written as the published files are."""

import gzip
import json


def dialogue(question, answer):
    return f"\n\nHuman: {question}\n\nAssistant: {answer}"


def write_pairs(path, pairs):
    """[(chosen, rejected)] as a .jsonl file, or a .jsonl.gz."""
    lines = [json.dumps({"chosen": a, "rejected": b}) for a, b in pairs]
    content = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
