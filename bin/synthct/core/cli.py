"""What every tool in ``bin/`` shares: one line for bad input, exit codes, version, threads, seeds."""

import os
import sys
from pathlib import Path

import click

from synthct import __version__
from synthct.core.crash import SHOWN, leave_log
from synthct.core.errors import FAULT_FILE, InputError
from synthct.core.files import out_of_room


class Command(click.Command):
    """A Click command none of whose outputs takes the place of an input, or of another output."""

    def invoke(self, ctx):
        _check_places(self, ctx)
        return super().invoke(ctx)


class Tool(Command):
    """A Click command whose bad input (Click's own or an `InputError`) is one line on stderr and exit status 2.

    Any other exception is one line too, with the log to send, and exit status 1 (see `synthct.core.crash`).
    """

    def main(self, *args, **kwargs):
        kwargs["standalone_mode"] = False
        name = self.name or "synthct"
        try:
            super().main(*args, **kwargs)
        except click.exceptions.Exit as stop:
            sys.exit(stop.exit_code)
        except click.Abort:
            sys.exit(130)
        except click.ClickException as fault:
            _die(name, fault.format_message())
        except InputError as fault:
            _die(name, str(fault))
        except Exception as fault:
            if _told():
                sys.exit(2)  # another process of the run has stopped over the input; this one's trouble follows from it
            if not out_of_room(fault):  # a full disk is the user's to mend; anything else is ours
                if os.environ.get(SHOWN):
                    raise
                given = args[0] if args and args[0] else kwargs.get("args") or sys.argv[1:]
                log = leave_log(name, fault, given)
                print(
                    f"{name}: failed unexpectedly ({type(fault).__name__}), a fault of the program; please send "
                    f"its log: {log}",
                    file=sys.stderr,
                )
                sys.exit(1)
            written = getattr(fault, "filename", None) or "an output"
            _die(name, f"no room left on the disk while writing {written}; nothing was half-written")
        sys.exit(0)


class ToolGroup(Tool, click.Group):
    """A tool with subcommands, under the same rule."""

    command_class = Command


def _check_places(command: click.Command, ctx: click.Context):
    """Whole directories are the tools' own matter: what they may replace in one, they know (`require_replaceable`)."""
    given = [
        (one.type.exists, one.opts[0], path)
        for one in command.params
        if isinstance(one.type, click.Path)
        for path in _paths(one, ctx.params.get(one.name or ""))
    ]
    inputs = {os.path.realpath(path): option for read, option, path in given if read and os.path.isfile(path)}
    taken: dict[str, str] = {}
    for read, option, path in given:
        place = os.path.realpath(path)
        if read:
            continue
        if place in inputs:
            raise InputError(f"{option} {path}: is the input {inputs[place]}, which would be lost")
        if place in taken and os.path.splitext(place)[1]:
            raise InputError(f"{option} {path}: is the output {taken[place]} as well, expected two places")
        taken[place] = option


def _paths(option: click.Parameter, value) -> list[str]:
    return [str(each) for each in (value if isinstance(value, tuple | list) else [value])] if value else []


def _die(name: str, message: str):
    if place := os.environ.get(FAULT_FILE):
        if not _told():
            Path(place).write_text(message, encoding="utf-8")
        sys.exit(2)
    print(f"{name}: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _told() -> bool:
    """Whether a process of this run has left word of wrong input (see `synthct.training.launch.launch`)."""
    place = os.environ.get(FAULT_FILE, "")
    return bool(place) and os.path.exists(place)


def tool(name: str, **kwargs):
    """Decorator: a Click command called `name` with ``--version`` and one-line errors."""

    def wrap(function):
        command = click.command(name=name, cls=Tool, context_settings={"show_default": True}, **kwargs)(function)
        return click.version_option(__version__, prog_name=name)(command)

    return wrap


def tool_group(name: str, **kwargs) -> ToolGroup:
    """A tool called `name` whose subcommands are added to it, with ``--version`` and one-line errors."""
    return click.version_option(__version__, prog_name=name)(ToolGroup(name=name, **kwargs))


def options(*each):
    """Decorator: several options or arguments, which ``--help`` shows in this order; for blocks that tools share."""

    def wrap(function):
        for one in reversed(each):
            function = one(function)
        return function

    return wrap


def settings_options(example: str = "section.key=value"):
    """Decorator: --preset, --settings and --set, as `synthct.core.presets.section` takes them."""
    return options(
        click.option("--preset", default="paper", help="settings: a preset's name or a TOML file"),
        click.option("--settings", type=FILE, help="settings: a resolved file, instead of --preset"),
        click.option("--set", "overrides", multiple=True, help=f"{example}, over the preset"),
    )


def cpu_threads(fallback: int | None = None) -> int:
    """Threads this process may use: OMP_NUM_THREADS (task.cpus in the pipeline), else the processors it may run on."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    return fallback or len(os.sched_getaffinity(0))


# Threads of torch that wait leave the cores to others; read when torch is loaded, so it must be said before.
os.environ.setdefault("GOMP_SPINCOUNT", "0")

FILE = click.Path(exists=True, dir_okay=False, path_type=str)
VOLUME = click.Path(exists=True, path_type=str)  # a file, or a DICOM series directory
OUT = click.Path(path_type=str)
