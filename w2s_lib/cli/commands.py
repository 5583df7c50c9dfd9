"""python -m w2s_lib COMMAND: which commands there are, and where each of them is."""

import argparse
import importlib

COMMANDS = {
    "audit": ("w2s_lib.cli.audit_command", "what a file of labels and predictions says about a teacher and a student"),
    "evidence": ("w2s_lib.cli.evidence_command", "compute the book's tables of experiments on real data anew"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit status, or 2 with a message for what cannot be run."""
    lines = "\n".join(f"  {name:10}{what}" for name, (_, what) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m w2s_lib",
        usage="%(prog)s [--help] COMMAND ...",
        description="Weak-to-strong generalisation: gain = misfit - residual.",
        epilog=f"commands:\n{lines}\n\n%(prog)s COMMAND --help says what a command takes.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    try:
        module = importlib.import_module(COMMANDS[chosen.command][0])
    except ImportError as error:  # it names the extra that is missing
        parser.exit(2, f"{parser.prog} {chosen.command}: {error}\n")
    return module.main(chosen.rest)
