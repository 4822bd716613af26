"""The command line. Commands import what they need when they run, so that `--help` answers at once."""

import gc
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from service.domain.callers import KeyKind
from service.domain.keys import WeakPepperError
from service.errors import EverturnError

app = typer.Typer(
    help="Everturn, a chat backend that never loses a turn. Settings come from the environment: docs/settings.md.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
users = typer.Typer(help="Make and list users.", no_args_is_help=True)
keys = typer.Typer(help="Make, list and revoke keys.", no_args_is_help=True)
app.add_typer(users, name="users")
app.add_typer(keys, name="keys")

Limit = Annotated[int, typer.Option(min=1, max=1000, help="How many at the most, the newest first.")]
User = Annotated[str, typer.Option("--user", help="Number or name of the user.")]


def main() -> None:
    """Run a command; a failure is one sentence on standard error and the exit code 1."""
    # A fifth of an import is looking through what it makes, all of which stays; commands.py ends this.
    gc.disable()
    try:
        app()
    except (EverturnError, WeakPepperError, OSError) as error:
        typer.echo(f"everturn: {error}", err=True)
        sys.exit(1)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; else EVERTURN_HOST, 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; else EVERTURN_PORT, 8000.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Processes; else EVERTURN_WORKERS, 1.")] = None,
    migrate: Annotated[bool, typer.Option("--migrate", help="Migrate first, also on Postgres.")] = False,
) -> None:
    """Serve. Makes and migrates an embedded database, and on its first start an admin key, which it prints once."""
    from service import commands

    commands.serve(host=host, port=port, workers=workers, migrate_first=migrate, announce=typer.echo)


@app.command()
def migrate() -> None:
    """Bring the database to the schema of this version."""
    from service import commands

    typer.echo(f"The database is at {commands.migrate()}.", err=True)


@app.command("import")
def import_files(
    files: Annotated[list[Path], typer.Argument(help="ChatGPT's .zip, .json files, .ndjson, folders of them, or -.")],
    user: User,
) -> None:
    """Import conversations from ChatGPT, Open WebUI or Everturn; prints a JSON line an item, and a summary a file."""
    from service import porting_commands

    if not porting_commands.import_files(files, user, tell=typer.echo):
        raise typer.Exit(1)


@app.command("export")
def export_user(
    user: User,
    form: Annotated[
        Literal["ndjson", "chatgpt"], typer.Option("--format", help="Our own lines, or ChatGPT's list.")
    ] = ("ndjson"),
) -> None:
    """Print everything of a user."""
    from service import porting_commands

    porting_commands.export_user(user, form, sys.stdout.buffer)


@app.command()
def openapi() -> None:
    """Print the API's OpenAPI description."""
    from service import commands

    typer.echo(commands.openapi())


@app.command()
def verify(
    rebuild: Annotated[bool, typer.Option("--rebuild", help="First make the rollups anew from the ledger.")] = False,
) -> None:
    """Prove that rollups, ledger and completions agree; the exit code is 1 where they do not."""
    from service import ledger_commands

    proof = ledger_commands.verify(rebuild=rebuild)
    typer.echo(ledger_commands.describe_proof(proof))
    if not proof.holds:
        sys.exit(1)


@app.command()
def reprice(
    since: Annotated[datetime, typer.Option(help="From this day or moment on, in UTC.")],
    until: Annotated[datetime | None, typer.Option(help="Before this one.")] = None,
    model: Annotated[str | None, typer.Option(help="This model alone.")] = None,
    dry: Annotated[bool, typer.Option("--dry-run", help="Only say what it would do.")] = False,
) -> None:
    """Price what was charged by today's prices, and book the differences as corrections. No entry is changed."""
    from service import ledger_commands

    typer.echo(ledger_commands.describe_repricing(ledger_commands.reprice(since, until=until, model=model, dry=dry)))


@app.command()
def limit(
    what: Annotated[Literal["all", "key", "user"], typer.Argument(help="All together, one key or one user.")],
    settings: Annotated[
        list[str],
        typer.Argument(help="day=5 week=20 month=50 (dollars), requests=60 tokens=9000 (a minute), streams=4"),
    ],
    number: Annotated[int, typer.Option(min=0, max=2**53 - 1, help="The key's or the user's number.")] = 0,
) -> None:
    """Set budgets and limits; `day=` takes one away."""
    from service import ledger_commands

    ledger_commands.limit(what, number, settings)


@users.command("create")
def create_user(
    username: Annotated[str, typer.Option(help="Unique, whatever its case.")],
    role: Annotated[Literal["user", "admin"], typer.Option(help="What the user may be.")] = "user",
    email: Annotated[str | None, typer.Option(help="Unique as well.")] = None,
    external_id: Annotated[str | None, typer.Option(help="What your own system calls the user.")] = None,
) -> None:
    """Make a user; prints the number alone."""
    from service import commands

    made = commands.create_user(username, role, email=email, external_id=external_id)
    typer.echo(made.id)
    typer.echo(f"User {made.username} is made. A key: everturn keys create --user {made.id}", err=True)


@users.command("list")
def list_users(limit: Limit = 100) -> None:
    """List users: number, name, role, email."""
    from service import commands

    for user in commands.list_users(limit):
        typer.echo(f"{user.id}\t{user.username}\t{user.role}{' disabled' * user.disabled}\t{user.email or ''}")


@keys.command("create")
def create_key(
    user: User,
    kind: Annotated[KeyKind, typer.Option(help="`service` acts for ordinary users, `admin` for all.")] = "user",
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    scopes: Annotated[str, typer.Option(help="By commas: read, write, complete, provision. Else all that fit.")] = "",
    days: Annotated[int | None, typer.Option(min=1, max=36_000, help="Days until it expires; else never.")] = None,
) -> None:
    """Make a key; prints the secret alone, this once."""
    from service import commands

    made = commands.create_key(commands.KeyWish(user, kind, name, scopes, days))
    typer.echo(made.token)
    typer.echo(f"Key {made.key.id} of user {made.key.user_id}: keep it, it cannot be shown again.", err=True)


@keys.command("list")
def list_keys(user: User, limit: Limit = 100) -> None:
    """List a user's keys: number, kind, scopes, name, end."""
    from service import commands

    for key in commands.list_keys(user, limit):
        end = key.revoked_at or key.expires_at
        typer.echo(f"{key.id}\t{key.kind}\t{','.join(key.scopes)}\t{key.name}\t{end.isoformat() if end else ''}")


@keys.command("revoke")
def revoke_key(key_id: Annotated[int, typer.Argument(min=1, max=2**53 - 1, help="The key's number.")]) -> None:
    """End a key, everywhere within five seconds."""
    from service import commands

    commands.revoke_key(key_id)
    typer.echo(f"Key {key_id} is revoked.", err=True)


if __name__ == "__main__":
    main()
