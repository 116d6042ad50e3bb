"""Writes the boards into grafana/dashboards.

Owns: command.
"""

import click

from grafana.boards import FOLDER, documents


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Write grafana/dashboards anew from the code; a file that no board has any more goes."""
    made = documents()
    for path in FOLDER.glob("*.json"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text)
        click.echo(f"{FOLDER / name}: {text.count('gridPos')} panels and headings")


if __name__ == "__main__":
    command()
