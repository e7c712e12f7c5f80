"""The command line. Its modules import heavy packages inside functions only, so that `segc --help` is fast."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from segc import __version__, packages
from segc.cli import exhaustion, logs, streams
from segc.errors import SegcError
from segc.files import published
from segc.files.interrupts import noted
from segc.suggestions import did_you_mean

COMMANDS = (
    "compile",
    "bisect",
    "diff",
    "build",
    "opt",
    "run",
    "val",
    "verify",
    "kit",
    "sign",
    "sbom",
    "package",
    "serve",
    "bench",
    "report",
    "inspect",
    "targets",
    "passes",
    "doctor",
    "matrix",
    "explain",
)
INTERRUPTED = 130

_EPILOG = """\
exit codes: 0 done, 1 a bug in segc, 2 wrong command line, 3 source, checkpoint or shape bad, 4 target refuses part of
the graph, 5 parity gate failed, 6 bundle damaged, 7 package missing, 8 file or folder unusable, 9 export or runtime
failed, 130 interrupted.
environment: SEGC_LOG=debug|info|warning|error logs to stderr, as -v and -vv do; SEGC_DEBUG=1 shows tracebacks of bugs.
segc explain CODE explains the code of a message; segc COMMAND --help describes a command.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, and return its exit code. Errors go to stderr, or with --json as a JSON object to stdout."""
    args = argparse.Namespace()
    streams.prepare()
    try:
        args = _parsed(argv)
        signal.signal(signal.SIGTERM, _terminate)  # cleans up like Ctrl-C
        published.begin()
        with logs.shown(logs.level(args)), noted():
            code = int(import_module(f"segc.cli.{args.command}").main(args))
        streams.finish()
        return code
    except SegcError as error:
        _say(error, as_json=getattr(args, "json", False))
        return error.exit_code
    except ModuleNotFoundError as error:
        if (missing := packages.missing(error)) is None:
            return _unexpected(error, args)
        _say(missing, as_json=getattr(args, "json", False))
        return missing.exit_code
    except KeyboardInterrupt as error:
        if (ended := exhaustion.refusal(error)) is not None:
            _say(ended, as_json=getattr(args, "json", False))
            return ended.exit_code
        # One that came through exec(str), as in imports of torch, leaves a flag for which CPython ends by SIGINT
        # whatever the exit code; running any text resets it.
        exec("")
        print(f"segc: interrupted; {published.summary()}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away
        streams.silence()
        return INTERRUPTED
    except Exception as error:
        return _unexpected(error, args)


def _unexpected(error: Exception, args: argparse.Namespace) -> int:
    """The exit code of an error that no code raised on purpose: the machine's limits, or a bug."""
    if isinstance(error, OSError) and (said := streams.refusal(error)) is not None:
        streams.silence()
        _say(said, as_json=False)
        return said.exit_code
    if (ended := exhaustion.refusal(error)) is not None:
        _say(ended, as_json=getattr(args, "json", False))
        return ended.exit_code
    return _bug(error)


def _bug(error: Exception) -> int:
    if os.environ.get("SEGC_DEBUG"):
        raise error
    print(
        f"segc: this is a bug in segc: {type(error).__name__}: {error}\n"
        "  so       run again with SEGC_DEBUG=1 for the traceback, and report it with the command you typed",
        file=sys.stderr,
    )
    return 1


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    root = argparse.ArgumentParser(
        prog="segc",
        description="Compile segmentation models into verified deployment bundles.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"segc {__version__}")
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        import_module(f"segc.cli.{name}").add_parser(commands)
    logs.add_verbose(root, commands.choices.values())
    return root


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line. An unknown option is an error that suggests similar ones."""
    root = parser()
    try:
        args, unknown = root.parse_known_args(argv)
    except SystemExit:  # after --help
        streams.finish()
        raise
    if not unknown:
        return args
    command = _commands(root)[args.command]
    known = [option for action in command._actions for option in action.option_strings if option.startswith("--")]
    wrong = unknown[0].partition("=")[0]
    close = did_you_mean(wrong, known) if wrong.startswith("-") else ""
    command.error(f"unrecognized arguments: {' '.join(unknown)}{f'; {close}' if close else ''}")


def _commands(root: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parser of each command."""
    (found,) = (action for action in root._actions if isinstance(action, argparse._SubParsersAction))
    return dict(found.choices)


def _say(error: SegcError, *, as_json: bool) -> None:
    try:
        if as_json:
            import json

            print(json.dumps(error.to_json(), indent=2), flush=True)
        else:
            print(f"segc: {error}", file=sys.stderr, flush=True)
    except OSError:  # nobody reads it, or there is no room for it: the exit code says enough
        streams.silence()


def _terminate(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
