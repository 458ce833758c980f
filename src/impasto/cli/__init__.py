"""The command line: options made from the recipe's own fields, one line before the work, a bar during it, a path after it.

The only room that prints and exits. It knows words for people; it refuses to know how a picture is painted. ``painting``,
``sweep`` and ``explain`` are the commands that make pictures, ``making`` those that look at a run, ``looking`` those that
look around; ``display`` is what is seen during the work.
"""

from __future__ import annotations

import errno
import sys

from cyclopts import App, CycloptsError, Parameter

from impasto import __version__
from impasto.cli import explain, looking, making, painting, sweep
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
    default_parameter=Parameter(allow_repeating=True),  # of an option that is given twice the last one counts
)
app.command(painting.stylize_command(), name="stylize", usage=painting.USAGE)
app.command(painting.plan)
app.command(painting.resume)
app.command(painting.demo)
app.command(making.report)
app.command(making.timelapse)
app.command(sweep.made(), name="sweep", usage=sweep.USAGE)
app.command(explain.explain, usage=explain.USAGE)
app.command(looking.compare, usage="Usage: impasto compare RESULT... [OPTIONS]")
app.command(looking.recipes_, name="recipes")
app.command(looking.museum)
app.command(looking.fetch)
app.command(looking.licenses)
app.command(looking.doctor)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 a run that failed, 2 a request that cannot be met, 130 interrupted."""
    speak_any_name()
    try:
        given = sweep.in_order(sys.argv[1:] if arguments is None else arguments)
        app(given, exit_on_error=False, print_error=False)
        sys.stdout.flush()  # what cannot be written is said here, and not by the interpreter as it ends
    except CycloptsError as error:
        message, hint = unknown_option(str(error)) or (str(error), "")
        complain(message, hint or "`impasto --help` lists the commands, `impasto COMMAND --help` their options.")
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
