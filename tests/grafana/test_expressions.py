"""The expressions that have a meaning of their own, evaluated by Prometheus' own test runner on series written by hand."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from grafana.expressions import ALERTS, ANNOTATIONS, STATE, STATES, while_none

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool (package prometheus)"
)

ENGINE = '{service="engine", instance="e:1"}'
WORKING = {
    f"up{ENGINE}": "1x5 0x3 1x11",
    'engine:batch_interval:seconds{service="engine"}': "1x20",
    # 4 s after its start the second process has committed nothing yet.
    f"engine_start_time_seconds{ENGINE}": "-1x5 stale _x2 17x11",
    f"engine_last_commit_time_seconds{ENGINE}": "0+2x5 stale _x4 22+2x9",
    'engine_lag_seconds{service="engine", instance="e:1", topic="t", partition="0"}': "1x5 stale _x4 9-1x9",
}
"""An engine that is scraped every 2 s, is gone from 12 s to 18 s, starts at 17 s, commits from 22 s on and catches up."""


def evaluated(expr: str, seconds: float, series: Mapping[str, str], folder: Path) -> str:
    """What an expression gives at a time, as promtool prints it; "" for what it expected: nothing."""
    test = {
        "evaluation_interval": "2s",
        "tests": [
            {
                "interval": "2s",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [{"expr": expr, "eval_time": f"{seconds}s"}],
            }
        ],
    }
    path = folder / "test.yml"
    path.write_text(yaml.safe_dump(test))
    done = subprocess.run(
        ["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    if "SUCCESS" in said:
        return ""
    return said.partition("got:")[2].strip()


def value(expr: str, seconds: float, series: Mapping[str, str], folder: Path) -> float:
    """The one value of an expression."""
    return float(evaluated(expr, seconds, series, folder).rpartition(" ")[2])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seconds", "state"),
    [(10, "at work"), (14, "down"), (20, "restoring"), (24, "catching up"), (36, "at work")],
)
def test_state_follows_the_engine(seconds: int, state: str, tmp_path: Path) -> None:
    """The state goes from at work over down, restoring and catching up back to at work."""
    found = value(STATE, seconds, WORKING, tmp_path)

    assert STATES[int(found)][0] == state


@pytest.mark.slow
def test_state_is_unknown_without_prometheus_knowing_the_engine(tmp_path: Path) -> None:
    """Without a scrape of the engine there is no state, so that nothing looks well that nobody looks at."""
    assert evaluated(STATE, 10, {'up{service="kafka"}': "1x20"}, tmp_path) == ""


@pytest.mark.slow
def test_recovery_is_one_moment(tmp_path: Path) -> None:
    """The annotation of a recovery is there at the first look at which the engine is at work again, and only there."""
    expr = str(ANNOTATIONS["Recovered"]["expr"])
    there = [seconds for seconds in range(2, 40, 2) if evaluated(expr, seconds, WORKING, tmp_path)]

    assert there == [32]


@pytest.mark.slow
def test_alerts_are_named_while_they_fire(tmp_path: Path) -> None:
    """Alerts that fire are listed by name, one row says none while none does, and without rules there is no row."""
    rules = {'prometheus_rule_group_rules{rule_group="alerts"}': "17x20"}
    firing = {
        'ALERTS{alertname="EngineDown", alertstate="firing", severity="critical", service="engine"}': "1x20"
    }
    pending = {'ALERTS{alertname="EngineDown", alertstate="pending", severity="critical"}': "1x20"}

    assert 'alertname="EngineDown"' in evaluated(ALERTS, 10, rules | firing, tmp_path)
    assert 'alertname="none"' not in evaluated(ALERTS, 10, rules | firing, tmp_path)
    assert evaluated(ALERTS, 10, rules | pending, tmp_path) == '{alertname="none"} 0E+00'
    assert evaluated(ALERTS, 10, pending, tmp_path) == ""


@pytest.mark.slow
def test_a_placeholder_gives_way_and_needs_a_witness(tmp_path: Path) -> None:
    """The zero of something that has not happened goes when it happens, and is not there while nobody would know."""
    expr = while_none("sum by (a) (events)", "witness", a="none yet")

    assert evaluated(expr, 10, {"witness": "0x20"}, tmp_path) == '{a="none yet"} 0E+00'
    assert evaluated(expr, 10, {"witness": "0x20", 'events{a="b"}': "3x20"}, tmp_path) == '{a="b"} 3E+00'
    assert evaluated(expr, 10, {"other": "0x20"}, tmp_path) == ""
