package arch_test

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// self is what paths of our own packages begin with.
const self = "github.com/routex/cachewarmer/"

// anything marks a package that may import all others.
const anything = "*"

// ours says which of our packages each one may import. A name stands for the
// folder of that name below internal with all it holds, or for a top folder.
// A package may always import its own folders.
var ours = map[string][]string{
	"snapshot":   {},
	"source":     {"snapshot"},
	"store":      {"snapshot"},
	"lease":      {"snapshot"},
	"warmer":     {"snapshot"},
	"replica":    {"snapshot"},
	"router":     {"snapshot"},
	"balancer":   {"snapshot"},
	"proxy":      {"snapshot"},
	"requestlog": {"snapshot"},
	"audit":      {"snapshot"},
	"observer":   {"snapshot"},
	"api":        {"snapshot"},
	"settings":   {"snapshot"},
	"state":      {"snapshot"},
	"embedded":   {},
	"testkit":    {"embedded", "snapshot"},
	"app":        {anything},
	"cmd":        {anything},
	"test":       {anything},
	"scripts":    {},
	"standin":    {},
}

// inTests is what the tests of any package may import beside what it may
// import itself.
var inTests = []string{"snapshot", "testkit", "embedded", "standin"}

// drivers says who may talk to what is outside the process, and whose tests
// may besides. Package test may use them all; what is not listed here is for
// everybody. Of a driver, settings uses only the parser of addresses.
var drivers = []struct {
	pkg     string
	users   []string
	inTests []string
}{
	{pkg: "github.com/redis/go-redis", users: []string{"store", "lease", "embedded", "testkit", "app", "settings"}},
	// Locks have to expire on the embedded Redis too.
	{pkg: "github.com/bsm/redislock", users: []string{"lease"}, inTests: []string{"embedded"}},
	// A Redis inside a test's bubble of time.
	{pkg: "github.com/alicebob/miniredis", users: []string{"embedded", "testkit"}, inTests: []string{"lease"}},
	{pkg: "database/sql", users: []string{"source", "testkit"}},
	{pkg: "github.com/jackc/pgx", users: []string{"source", "testkit", "settings"}},
	{pkg: "github.com/pressly/goose", users: []string{"source"}},
	{pkg: "modernc.org/sqlite", users: []string{"source", "testkit"}},
}

// Limits of length. A file is read in one sitting, a function at one glance.
const (
	maxFileLines     = 300
	maxFunctionLines = 40 // between its braces
)

// mayBeLong lists functions beyond the limit, with the reason.
var mayBeLong = map[string]string{
	"internal/app.New": "it is a list: every part once, in the order in which they start",
}

// owner is the entry of ours that a package belongs to.
func owner(pkg string) string {
	top, rest, _ := strings.Cut(pkg, "/")
	if top != "internal" {
		return top
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// importFaults lists what f imports and may not.
func importFaults(f file) []string {
	from := owner(f.pkg)
	allowed, known := ours[from]
	if !known {
		return []string{fmt.Sprintf("%s: package %s is not in the import table", f.path, f.pkg)}
	}
	if f.test {
		allowed = slices.Concat(allowed, inTests)
	}
	var faults []string
	for _, imported := range f.imports {
		if pkg, ok := strings.CutPrefix(imported, self); ok {
			to := owner(pkg)
			if to != from && !slices.Contains(allowed, to) && !slices.Contains(allowed, anything) {
				faults = append(faults, fmt.Sprintf("%s: package %s may not import %s", f.path, from, pkg))
			}
			continue
		}
		for _, d := range drivers {
			mayUse := from == "test" || slices.Contains(d.users, from) || f.test && slices.Contains(d.inTests, from)
			if below(imported, d.pkg) && !mayUse {
				faults = append(faults, fmt.Sprintf("%s: package %s may not import the driver %s", f.path, from, imported))
			}
		}
	}
	return faults
}

// below reports whether pkg is root or a package in it.
func below(pkg, root string) bool {
	return pkg == root || strings.HasPrefix(pkg, root+"/")
}

// lengthFaults lists what is too long in f. It notes in used which entries of
// mayBeLong it needed.
func lengthFaults(f file, used map[string]bool) []string {
	if f.test || f.generated {
		return nil
	}
	var faults []string
	if f.lines > maxFileLines {
		faults = append(faults, fmt.Sprintf("%s has %d lines, at most %d are wanted", f.path, f.lines, maxFileLines))
	}
	for _, fn := range f.functions {
		name := f.pkg + "." + fn.name
		switch {
		case fn.lines <= maxFunctionLines:
		case mayBeLong[name] != "":
			used[name] = true
		default:
			faults = append(faults, fmt.Sprintf("%s:%d: %s has %d lines, at most %d are wanted", f.path, fn.at, fn.name, fn.lines, maxFunctionLines))
		}
	}
	return faults
}

// packageOf is the package in a name of mayBeLong.
func packageOf(name string) string {
	dir, base := path.Split(name)
	pkg, _, _ := strings.Cut(base, ".")
	return dir + pkg
}
