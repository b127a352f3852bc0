// Package settings says how the process runs. What the fleet serves, and how
// it warms, is not here: that is shared through the source and Redis.
//
//	defaults ─▶ YAML file ─▶ environment ─▶ flags ─▶ Load ─▶ *Settings ─▶ app
//	                                                  └─▶ *Error, one line
//
// Table is the only list of settings. Flags, variables, file keys, help and
// what `routex settings` prints all follow from it. A Settings that Load
// returned has passed every check, each value knows where it came from, and
// no way of printing it shows a secret.
package settings
