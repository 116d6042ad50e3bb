"""The scripts in a folder of their own, with a `docker` that says what it is asked.

Owns: DOCKER, PORT, PLAN, place, environment, run.
Never: a real Docker.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.compose.model import ROOT
from tests.ports import free_port

DOCKER = """#!/bin/sh
case "$*" in
  "version --format"*) echo "${ENGINE:-20.10.24}" ;;
  "compose version --short") [ -n "${PLUGIN-2.40.3}" ] && echo "${PLUGIN-2.40.3}" || exit 1 ;;
  "info --format"*) echo "${MEMORY:-8589934592}" ;;
  *" config") cat "$PLAN" ;;
  *" config --services") printf 'kafka\nengine\n' ;;
  "run "*) [ -z "${REFUSES-}" ] || { echo "$REFUSES" >&2; exit 2; } ;;
  *" rm --stop "*) [ -z "${STUCK-}" ] || { echo "$STUCK" >&2; exit 1; } ;;
  "ps "*"service=engine") [ -z "${RUNS_WITH-}" ] || echo engine1 ;;
  "ps "*"service=producer") [ -z "${RUNS_WITH-}" ] || echo producer1 ;;
  "inspect "*engine1) printf 'PATH=/bin\n%s\nAPP=\nSEED=4\n' "$RUNS_WITH" ;;
  "inspect "*producer1) printf 'JOBS=none\nSEED=5\n' ;;
  *" verify" | *" verify "*)
    echo "docker $* project=$COMPOSE_PROJECT_NAME"
    [ -z "${RUNS_WITH-}" ] || echo "with JOBS=$JOBS KEYSPACE=$KEYSPACE APP=$APP SEED=$SEED"
    exit "${ENDS_WITH:-0}"
    ;;
  "volume "*) ;;
  "ps "*working_dir*) echo "${FOLDERS-}" ;;
  *" build agent") [ -z "${BUILDS-}" ] || { echo $$ >"$BUILDS"; while :; do sleep 0.05; done; } ;;
  *" logs --no-color "*) printf '%b' "${PAST-}" ;;
  *" logs --since "*) printf '%b' "${COMES-}"; exit "${ENDS_WITH:-0}" ;;
  *" ps --all"*) echo "${STATES-}" ;;
  *" ps --quiet") echo engine1 ;;
  *" up --detach"*)
    [ -z "${FAILS-}" ] || { echo "$FAILS" >&2; exit 1; }
    [ -n "${HANGS-}" ] || exit 0
    trap 'rm "$HANGS"; exit 1' TERM
    echo $$ >"$HANGS"
    while :; do sleep 0.05; done
    ;;
  "ps "* | *" ps "*) ;;
  *) echo "docker $* project=$COMPOSE_PROJECT_NAME" ;;
esac
"""
"""Stands in for an engine that is too old, too small or without its plugin, or whose start hangs; it says what else it was asked.

HANGS is a file that is there while the start goes on, with the start's process id; BUILDS one that is there once a build without
an end has begun. PAST is what the logs hold, COMES what follows.
"""

PORT = free_port()
"""Published by the plan."""

PLAN = f"""name: dstreams
services:
  engine:
    mem_limit: "3000000000"
    ports:
      - mode: ingress
        target: 19108
        published: "{PORT}"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the scripts and a `docker` of its own in bin/."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin/docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    (tmp_path / "plan").write_text(PLAN)
    return tmp_path


def environment(place: Path, **variables: str) -> dict[str, str]:
    """The variables of a script that finds the `docker` of a folder."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    return {**kept, "PATH": f"{place}/bin:{os.environ['PATH']}", "PLAN": str(place / "plan"), **variables}


def run(place: Path, *command: str, **variables: str) -> tuple[int, str]:
    """Exit code and all output of a script."""
    done = subprocess.run(
        command,
        cwd=place,
        env=environment(place, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout
