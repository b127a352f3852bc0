# shellcheck shell=bash
# Sourced by scripts/test and scripts/lint.

# step NAME REMEDY COMMAND... runs the command and says how long it took. If it
# fails, step says what to do and ends the script with the command's code.
#
# The command must report failure by its own exit code: inside it, "set -e"
# has no effect.
step() {
	local name=$1 remedy=$2 began=$SECONDS code=0
	shift 2
	printf '==> %s\n' "$name"
	"$@" || code=$?
	if [ "$code" -ne 0 ]; then
		printf '==> %s: FAILED after %d s. %s\n' "$name" $((SECONDS - began)) "$remedy" >&2
		exit "$code"
	fi
	printf '==> %s: done in %d s\n' "$name" $((SECONDS - began))
}

# nested lists the folders of the modules below the root, but for the one that
# only pins tools.
nested() {
	find . -mindepth 2 -name go.mod -not -path './scripts/tools/*' \
		-not -path '*/testdata/*' -exec dirname {} \; | sort
}

# nested_too COMMAND... runs the command in the root and in each nested module,
# up to the first failure.
nested_too() {
	"$@" || return
	local module
	for module in $(nested); do
		(cd "$module" && "$@") || return
	done
}
