# Sourced by the scripts beside it, from the repository's folder: takes over the settings of .env that the environment does
# not have, as docker compose does. POSIX sh.

# Lines NAME=VALUE, also with `export` in front. In quotes all is the value; without, it ends before a # behind a blank. The
# environment goes first.
if [ -f .env ]; then
  while read -r line || [ -n "$line" ]; do
    case $line in "export "*) line=${line#export } ;; esac
    name=${line%%=*} value=${line#*=}
    name=${name#"${name%%[![:space:]]*}"} name=${name%"${name##*[![:space:]]}"}
    case $name in '' | "$line" | [0-9]* | *[!A-Za-z0-9_]*) continue ;; esac
    value=${value#"${value%%[![:space:]]*}"}
    case $value in
      \"*\"*) value=${value#?} value=${value%%\"*} ;;
      \'*\'*) value=${value#?} value=${value%%\'*} ;;
      *) value=${value%%[[:space:]]\#*} value=${value%"${value##*[![:space:]]}"} ;;
    esac
    eval "[ -n \"\${$name+set}\" ]" || export "$name=$value"
  done <.env
fi

# find_stack: sets DATA_DIR; without STACK, a stack in containers that is up is meant. `make up` notes in DATA_DIR/compose
# what it has started: {"profile": ..., "project": ...}. `make down` moves that to DATA_DIR/compose.ended while volumes stay.
find_stack() {
  DATA_DIR=${DATA_DIR:-.stack}
  case $DATA_DIR in /*) ;; *) DATA_DIR=$PWD/$DATA_DIR ;; esac
  export DATA_DIR
  COMPOSE_MARKER=$DATA_DIR/compose
  COMPOSE_ENDED=$DATA_DIR/compose.ended
  if [ -z "${STACK:-}" ] && [ -f "$COMPOSE_MARKER" ]; then
    export STACK=compose
  fi
  for note in "$COMPOSE_MARKER" "$COMPOSE_ENDED"; do
    if [ "${STACK:-}" = compose ] && [ -f "$note" ] && [ -z "${COMPOSE_PROJECT_NAME:-}" ]; then
      COMPOSE_PROJECT_NAME=$(sed -n 's/.*"project": *"\([^"]*\)".*/\1/p' "$note")
      export COMPOSE_PROJECT_NAME
    fi
  done
  # What the commands write into DATA_DIR/drills is read by another user, in a container.
  [ "${STACK:-}" != compose ] || umask 022
}

# find_plain: without STACK, the stack of plain processes that is up in DATA_DIR is meant.
find_plain() {
  if [ -z "${STACK:-}" ] && [ -f "$DATA_DIR/run/supervisor.json" ]; then
    STACK=$(sed -n 's/.*"STACK": *"\([^"]*\)".*/\1/p' "$DATA_DIR/run/settings.json")
    export STACK
  fi
}

# name_variables: HOST_VARIABLES, the names of all variables of this environment, so that a program in a container can point
# out a misspelt one.
name_variables() {
  HOST_VARIABLES=$(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p' | tr '\n' ' ')
  export HOST_VARIABLES
}

# need_python: the tools of this machine have their libraries in .venv.
need_python() {
  [ -x .venv/bin/python ] || refuse "there is no .venv yet; make venv makes it (Python 3.11 or later, a few minutes)"
}

# is_help ARGUMENT...: whether help is asked for, wherever it stands.
is_help() {
  for argument; do
    case $argument in -h | --help) return 0 ;; esac
  done
  return 1
}

NO_STACK='no stack is up; start one with make up (containers), make up STACK=processes or make up STACK=embedded'

# refuse TEXT: what was asked for cannot be done as it is.
refuse() {
  echo "$1" >&2
  exit 2
}

# compose ARGUMENT...: docker compose on every service of the stack, whatever its profile.
compose() { docker compose --profile full --profile tools --profile engines-5 "$@"; }

# Compose's lines of progress change in place on a terminal; in a pipe or a log they would be dozens.
PROGRESS='--progress quiet'
[ ! -t 1 ] || [ ! -t 2 ] || PROGRESS='--progress auto'
