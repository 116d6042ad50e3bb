"""The runbook that panels and alerts lead to: what it tells to type can be typed, on either kind of stack."""

import re

from services.settings import REPOSITORY, Settings

RUNBOOK = (REPOSITORY / "docs" / "alerts.md").read_text()
SERVICES = "kafka|cassandra|producer|engine|verifier|prometheus"


def shape(command: str) -> str:
    """A command without what differs from case to case: services, settings, numbers of lines, what is looked for.

    Example:
        >>> shape("docker compose --profile full logs --tail 20 verifier   # why"), shape("make up AD_RATE=5 SEED=2")
        ('docker compose logs --tail N NAME', 'make up SETTING=value')
        >>> shape("docker compose logs kafka | grep -E 'a|b' | tail")
        'docker compose logs NAME | grep'
    """
    command = re.sub(r"\s+#.*", "", command).replace("\\|", "|").replace(" --profile full", "")
    command = re.sub(r"(?<=\| grep) .*", "", command)
    command = re.sub(r"(?<=--tail )\d+", "N", command)
    command = re.sub(r"(?<=cqlsh -e ).*", "QUERY", command)
    command = re.sub(r"^(make up) .*", r"\1 SETTING=value", command) if "WIPE" not in command else command
    return re.sub(rf"(?<=[ =])({SERVICES})(?=$| &&| \|)", "NAME", command).replace("-a NAME", "-a").strip()


def commands() -> list[str]:
    """The lines of the sections' code."""
    blocks = re.findall(r"```sh\n(.*?)```", RUNBOOK, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def test_every_command_for_containers_has_its_form_for_plain_processes() -> None:
    """What a section tells to type on a stack in containers stands in the table beside what it is for plain processes."""
    table = RUNBOOK.partition("| containers | plain processes |\n|---|---|\n")[2].partition("\n\n")[0]
    rows = [re.split(r"(?<!\\) \| ", row.strip("| "), maxsplit=1) for row in table.splitlines()]
    known = {shape(command) for left, _ in rows for command in re.findall(r"`([^`]+)`", left)}
    outside = RUNBOOK.partition("\n## CheckpointSlow\n")
    moves = set(re.findall(r"^(?:docker|make) .*", outside[2].partition("\n## ")[0], re.MULTILINE))
    asked = {shape(line) for line in commands() if line.startswith(("docker ", "make up", "make down"))}

    assert len(rows) > 10
    assert all(left and right for left, right in rows)
    assert asked - known - {shape(move) for move in moves} == set()


def test_sections_tell_the_commands_of_containers() -> None:
    """What a section tells to type works on the stack of `make up`; plain processes are told where the checkpoints move, and in the table."""
    plain = {line for line in commands() if "scripts/stack" in line or " .stack/" in line}

    assert plain == {
        "scripts/stack down",
        "cp -a .stack/checkpoints /another/disk/",
        "CHECKPOINT_DIR=/another/disk/checkpoints scripts/stack up",
    }


def test_commands_name_what_is_there() -> None:
    """Every script, make target and variable that the runbook tells to type is one of the project."""
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    variables = {name.upper() for name in Settings.model_fields} | {"WIPE", "SERVICE"}
    text = "\n".join(commands())

    for script in re.findall(r"\b(scripts/\w+)", RUNBOOK):
        assert (REPOSITORY / script).exists(), script
    assert set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)) <= targets
    assert set(re.findall(r"\b([A-Z][A-Z_]+)=", text)) <= variables
    for folder in set(re.findall(r" (/var/lib/\S+)", text)):
        assert folder in (REPOSITORY / "docker-compose.yml").read_text()
