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
# what it has started: {"profile": ..., "project": ...}.
find_stack() {
  DATA_DIR=${DATA_DIR:-.stack}
  case $DATA_DIR in /*) ;; *) DATA_DIR=$PWD/$DATA_DIR ;; esac
  export DATA_DIR
  COMPOSE_MARKER=$DATA_DIR/compose
  if [ -z "${STACK:-}" ] && [ -f "$COMPOSE_MARKER" ]; then
    export STACK=compose
  fi
  if [ "${STACK:-}" = compose ] && [ -f "$COMPOSE_MARKER" ] && [ -z "${COMPOSE_PROJECT_NAME:-}" ]; then
    COMPOSE_PROJECT_NAME=$(sed -n 's/.*"project": *"\([^"]*\)".*/\1/p' "$COMPOSE_MARKER")
    export COMPOSE_PROJECT_NAME
  fi
  # What the commands write into DATA_DIR/drills is read by another user, in a container.
  [ "${STACK:-}" != compose ] || umask 022
}

# refuse TEXT: what was asked for cannot be done as it is.
refuse() {
  echo "$1" >&2
  exit 2
}

# compose ARGUMENT...: docker compose on every service of the stack, whatever its profile.
compose() { docker compose --profile full --profile tools "$@"; }
