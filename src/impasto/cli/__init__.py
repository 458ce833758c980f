"""The command line.

Each command makes its options, calls the package, and prints one line before the work, a bar during
it, and the path of the result after it. Only this package prints and exits.
"""

from __future__ import annotations

import errno
import itertools
import sys
from typing import NoReturn

from cyclopts import App, CycloptsError, Parameter

from impasto import __version__
from impasto.cli import (
    explain_command,
    information_commands,
    run_commands,
    stylize_command,
    sweep_command,
)
from impasto.cli.terminal import discard_output, print_error, set_up_streams
from impasto.cli.unknown_options import unknown_option
from impasto.errors import BadRequest, ImpastoError, ran_out_of_memory

_HELP, _HELP_ALL = ("--help", "-h"), "--help-all"


def build_app(*, only_common: bool = False) -> App:
    """Return the program with all its commands.

    Args:
        only_common: Whether commands have only the common settings of a recipe, for the short help.
    """
    app = App(
        name="impasto",
        version=__version__,
        help_flags=_HELP,
        help="Paint a photo in the style of a painting.",
        help_format="plaintext",
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        # The last value of a repeated option counts.
        default_parameter=Parameter(allow_repeating=True, negative_iterable=()),
    )
    stylize = stylize_command.stylize_command(only_common=only_common)
    sweep = sweep_command.sweep_command(only_common=only_common)
    app.command(stylize, name="stylize", usage=stylize_command.USAGE)
    app.command(stylize_command.plan, usage="Usage: impasto plan PHOTO [STYLE...] [OPTIONS]")
    app.command(stylize_command.resume)
    app.command(stylize_command.demo)
    app.command(run_commands.report)
    app.command(run_commands.timelapse)
    app.command(sweep, name="sweep", usage=sweep_command.USAGE)
    app.command(explain_command.explain, usage=explain_command.USAGE)
    app.command(information_commands.compare, usage="Usage: impasto compare RESULT... [OPTIONS]")
    app.command(information_commands.recipes_, name="recipes")
    app.command(information_commands.museum, usage="Usage: impasto museum [WORDS...] [OPTIONS]")
    app.command(information_commands.fetch)
    app.command(information_commands.licenses)
    app.command(information_commands.doctor)
    return app


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit.

    Exit codes: 0 done, 1 a run that failed, 2 a request that cannot be met, 130 interrupted.
    """
    set_up_streams()
    try:
        app, words = _parse_help(sys.argv[1:] if arguments is None else arguments)
        app(words, exit_on_error=False, print_error=False)
        # An error of writing is reported here, and not by the interpreter as it ends.
        sys.stdout.flush()
    except CycloptsError as error:
        message, hint = unknown_option(str(error)) or (
            str(error),
            "`impasto --help` lists the commands, `impasto COMMAND --help` their options.",
        )
        print_error(message, hint)
        sys.exit(2)
    except ImpastoError as error:
        print_error(error.message, error.hint)
        sys.exit(2 if isinstance(error, BadRequest) else 1)
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        print_error("Memory ran out.", "Close other programs, or ask for a smaller --size.")
        sys.exit(1)
    except KeyboardInterrupt:
        print_error("Interrupted.")
        sys.exit(130)
    except BrokenPipeError:  # the program that reads the output has ended
        discard_output()
        sys.exit(1)
    except OSError as error:
        _exit_for_file(error)


def _parse_help(arguments: list[str]) -> tuple[App, list[str]]:
    """The application and the words that it is to parse.

    ``--help`` shows the common settings and ``--help-all`` every setting of a recipe.
    """
    words = ["--help" if word == _HELP_ALL else word for word in arguments]
    asks_for_help = any(flag in itertools.takewhile("--".__ne__, words) for flag in _HELP)
    app = build_app(only_common=asks_for_help and _HELP_ALL not in arguments)
    return app, sweep_command.add_axes_option(words)


def _exit_for_file(error: OSError) -> NoReturn:
    """Exit for a file name that the system refuses or an output that cannot be written.

    Other errors are raised again.
    """
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        print_error(f"{str(error.filename)[:80]}: {error.strerror}.", "Give another name.")
        sys.exit(2)
    if error.filename is not None:
        raise error
    discard_output()
    print_error(f"The output could not be written: {error.strerror or error}.")
    sys.exit(1)
