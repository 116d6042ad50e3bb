"""What a simulated group of replicas comes to."""

from click.testing import CliRunner

from tools.cluster.__main__ import command
from tools.cluster.simulation import changes


def test_simulated_changes_move_no_unit_in_vain() -> None:
    """The assignor of real replicas leaves every unit where it is that need not move, and every sharing is even."""
    for change in changes(10, 103):
        assert change.moved == change.needed, change
        assert change.most - change.fewest <= 1, change


def test_simulation_fits_a_terminal() -> None:
    """The command prints one row for each change, in 80 columns."""
    result = CliRunner().invoke(command, ["simulate", "--replicas", "4", "--units", "10"])

    assert result.exit_code == 0, result.output
    assert result.output.count("returns") == 2
    assert max(map(len, result.output.splitlines())) <= 80
