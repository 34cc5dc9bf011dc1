#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What the launch scripts share: how they refuse, and how they quote. They source this file.
# shellcheck disable=SC2034  # Whoever sources this file uses `command`.

# refuse TEXT: one sentence on stderr, exit code 2.
refuse() {
  echo "launch/$(basename "$0"): $1" >&2
  exit 2
}

# value OPTION [VALUE ...]: refuses an option that is the last word of a command line.
value() {
  [ $# -ge 2 ] || refuse "$1 needs a value."
}

# number OPTION VALUE LEAST: refuses a VALUE that is not a whole number of at least LEAST.
number() {
  [[ $2 =~ ^[0-9]{1,9}$ ]] && [ "$((10#$2))" -ge "$3" ] \
    || refuse "$1 is '$2', but must be a whole number of at least $3."
}

# plain OPTION VALUE PATTERN EXAMPLE: refuses a VALUE that the extended regex does not match whole.
plain() {
  [[ $2 =~ ^($3)$ ]] || refuse "$1 is '$2', but must look like $4."
}

# quoted WORD ...: the words as any POSIX shell reads them back, on one line of output if they are.
quoted() {
  local word separator=''
  for word in "$@"; do
    if [[ $word =~ ^[A-Za-z0-9_@%+=:,./-]+$ ]]; then
      printf '%s%s' "$separator" "$word"
    else
      printf "%s'%s'" "$separator" "${word//\'/\'\\\'\'}"
    fi
    separator=' '
  done
}

# restartable VERB [WORD ...]: sets the array `command`. A training that a signal stopped then ends
# with 75, so that whoever started it can tell "start again" from "finished".
restartable() {
  command=("$@")
  if [ "$1" = train ]; then
    command=(train --exit-when-stopped 75 "${@:2}")
  fi
}
