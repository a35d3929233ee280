"""The command line. Every command is a file of its own and is imported when it is called."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import IO, Any

import click

from fedray.endings import exit_code, stuck, terminable, word
from fedray.errors import FedrayError, InputError, nearest

COMMANDS = {
    "launch": ("fedray.cli.launch:command", "Run a federation and write its run folder."),
    "plan": ("fedray.cli.plan:command", "Say what a file would run; start nothing."),
    "doctor": ("fedray.cli.doctor:command", "Look whether this machine is well and a run fits."),
    "fork": ("fedray.cli.fork:command", "Run on from a version of a run, with settings changed."),
    "sweep": ("fedray.cli.sweep:command", "Run a file's combinations of settings, and rank them."),
    "diagnose": ("fedray.cli.diagnose:command", "Say what each cause costs a run."),
    "autopsy": ("fedray.cli.autopsy:command", "Say what happened at a run's falls."),
    "audit": ("fedray.cli.audit:command", "Say why clients got their weights."),
    "submit": ("fedray.cli.submit:command", "Launch, sweep or diagnose on a cluster, from here."),
    "jobs": ("fedray.cli.jobs:command", "List what runs on a cluster."),
    "logs": ("fedray.cli.logs:command", "Show how a job on a cluster goes."),
    "stop": ("fedray.cli.stop:command", "End a job on a cluster, with a checkpoint."),
    "fetch": ("fedray.cli.fetch:command", "Bring a job's folder here."),
    "report": ("fedray.cli.report:command", "Build the page of a run folder anew."),
    "compare": ("fedray.cli.compare:command", "Put runs beside each other."),
    "init": ("fedray.cli.init:command", "Write a commented file, made for your data."),
    "config": ("fedray.cli.config:command", "Show a file resolved, the schema, the reference."),
    "algorithms": ("fedray.cli.algorithms:command", "List algorithms, or explain one."),
}

_SIGNALS = 128
"""Exit codes above this are a signal's: nobody's error."""


class _Failure(click.ClickException):
    """A FedrayError on its way out through click: one line, its own exit code."""

    def __init__(self, error: FedrayError) -> None:
        super().__init__(" ".join(str(error).splitlines()))
        self.exit_code = error.exit_code  # type: ignore[misc]

    def show(self, file: IO[Any] | None = None) -> None:
        prefix = "" if self.exit_code > _SIGNALS else "error: "
        click.echo(f"{prefix}{self.message}", err=True, file=file)


class LazyGroup(click.Group):
    """Commands by import path, so that `--help` imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            hint = nearest(args[0], COMMANDS) or f"; there are {', '.join(COMMANDS)}"
            raise InputError(f"no command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FedrayError as error:
            if ctx.meta.get("fedray.verbose"):
                traceback.print_exc(file=sys.stderr)
            raise _Failure(error) from error
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            raise _Failure(InputError(_usage(error))) from error
        except KeyboardInterrupt as end:
            click.echo(word(end), err=True)
            raise click.exceptions.Exit(exit_code(end)) from None


def _usage(error: click.UsageError) -> str:
    """click's complaint, and where to read more, as one line."""
    command = error.ctx.command_path if error.ctx else "fedray"
    return f"{error.format_message().rstrip('.')} ({command} --help)"


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fedray", message="%(prog)s %(version)s")
@click.option("-v", "--verbose", is_flag=True, help="Tracebacks, and Ray's own logs.")
@click.pass_context
def cli(ctx: click.Context, verbose: bool) -> None:
    """Federated learning on Ray: asynchronous, and reproducible to the bit.

    \b
    fedray launch                              the built-in quickstart
    fedray init my.yaml --data t.csv --label y a file for your own data
    fedray launch my.yaml --set client.lr=0.05 run it, with one thing changed
    """
    ctx.meta["fedray.verbose"] = verbose


def main() -> None:
    """The console script. Exit codes: 0, 1 (failed), 2 (bad input), 74 (cannot write), 130 or 143
    (ended by Ctrl-C, by SIGTERM); docs/failures.md has what each means."""
    try:
        with terminable():
            cli(prog_name="fedray")
    except SystemExit as leaving:
        if stuck.is_set():
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(leaving.code if isinstance(leaving.code, int) else 1)
        raise
