"""The runbook that panels and alerts lead to: what it tells to type can be typed, on either kind of stack."""

import re

from services.settings import REPOSITORY, Settings

RUNBOOK = (REPOSITORY / "docs" / "alerts.md").read_text()
SERVICES = "kafka|cassandra|producer|engine|verifier|prometheus"


def shape(command: str) -> str:
    """A command without what differs from case to case: services, settings, options of tail and grep.

    Example:
        >>> shape("AD_RATE=500 scripts/stack up   # fewer"), shape("grep -E 'a|b' .stack/logs/kafka.log | tail")
        ('SETTING=value scripts/stack up', 'grep .stack/logs/NAME.log')
    """
    command = re.sub(r"\s+#.*|(?<=[a-z]) \|.*", "", command).strip()
    command = re.sub(r"^grep .*(?= \.stack)", "grep", command)
    command = re.sub(r"^tail .*(?= \.stack)", "tail", command)
    command = re.sub(r"^CHECKPOINT_DIR=\S+", "CHECKPOINT_DIR=FOLDER", command)
    command = re.sub(r"^((?!CHECKPOINT_DIR)[A-Z_]+=\S+ )+", "SETTING=value ", command)
    return re.sub(rf"(?<=[ /])({SERVICES})(?=$|\.log)", "NAME", command)


def commands() -> list[str]:
    """The lines of the sections' code."""
    blocks = re.findall(r"```sh\n(.*?)```", RUNBOOK, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def test_every_command_for_plain_processes_has_its_form_in_containers() -> None:
    """What a section tells to type on a stack of plain processes stands in the table beside what it is in containers."""
    table = RUNBOOK.partition("| plain processes | containers |\n|---|---|\n")[2].partition("\n\n")[0]
    rows = [row.split(" | ", 1) for row in table.splitlines()]
    known = {shape(command) for left, _ in rows for command in re.findall(r"`([^`]+)`", left)}
    asked = {shape(line) for line in commands() if "scripts/stack" in line or ".stack/" in line}

    assert all("`" in right or "](#" in right for _, right in rows)
    assert asked - known - {"cp -a .stack/checkpoints /another/disk/"} == set()


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
