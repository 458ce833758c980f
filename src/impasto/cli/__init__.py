"""The command line: options made from the recipe's own fields, one line before the work, a bar
during it, a path after it.

The only room that prints and exits. It knows words for people; it refuses to know how a picture is
painted. ``painting``, ``sweep`` and ``explain`` are the commands that make pictures, ``making``
those that look at a run, ``looking`` those that look around; ``display`` is what is seen during the
work.
"""

from __future__ import annotations

import errno
import sys

from cyclopts import App, CycloptsError, Parameter

from impasto import __version__
from impasto.cli import (
    explain_command,
    information_commands,
    run_commands,
    stylize_command,
    sweep_command,
)
from impasto.cli.options import unknown_option
from impasto.cli.terminal import complain, discard_output, speak_any_name
from impasto.errors import BadRequest, ImpastoError, ran_out_of_memory

app = App(
    name="impasto",
    version=__version__,
    help="Paint a photo in the style of a painting.",
    help_format="plaintext",
    result_action="return_value",
    suppress_keyboard_interrupt=False,
    # Of an option that is given twice the last one counts.
    default_parameter=Parameter(allow_repeating=True),
)
app.command(stylize_command.stylize_command(), name="stylize", usage=stylize_command.USAGE)
app.command(stylize_command.plan)
app.command(stylize_command.resume)
app.command(stylize_command.demo)
app.command(run_commands.report)
app.command(run_commands.timelapse)
app.command(sweep_command.made(), name="sweep", usage=sweep_command.USAGE)
app.command(explain_command.explain, usage=explain_command.USAGE)
app.command(information_commands.compare, usage="Usage: impasto compare RESULT... [OPTIONS]")
app.command(information_commands.recipes_, name="recipes")
app.command(information_commands.museum)
app.command(information_commands.fetch)
app.command(information_commands.licenses)
app.command(information_commands.doctor)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 a run that failed, 2 a request that cannot be met,
    130 interrupted.
    """
    speak_any_name()
    try:
        given = sweep_command.in_order(sys.argv[1:] if arguments is None else arguments)
        app(given, exit_on_error=False, print_error=False)
        # What cannot be written is said here, and not by the interpreter as it ends.
        sys.stdout.flush()
    except CycloptsError as error:
        message, hint = unknown_option(str(error)) or (str(error), "")
        complain(
            message,
            hint or "`impasto --help` lists the commands, `impasto COMMAND --help` their options.",
        )
        sys.exit(2)
    except ImpastoError as error:
        complain(error.message, error.hint)
        sys.exit(2 if isinstance(error, BadRequest) else 1)
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        complain("Memory ran out.", "Close other programs, or ask for a smaller --size.")
        sys.exit(1)
    except KeyboardInterrupt:
        complain("Interrupted.", "")
        sys.exit(130)
    except BrokenPipeError:  # the reader went away; there is nobody to tell
        discard_output()
        sys.exit(1)
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            complain(f"{str(error.filename)[:80]}: {error.strerror}.", "Give another name.")
            sys.exit(2)
        if error.filename is not None:
            raise
        discard_output()
        complain(f"The output could not be written: {error.strerror or error}.", "")
        sys.exit(1)
