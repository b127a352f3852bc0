// Package arch_test holds the code to the drawing of it: data flows one way,
// each hop knows the shared values and its own driver, and only app knows two
// hops. It also keeps files and functions short.
//
//	source ─▶ warmer ─▶ store ─▶ replica ─▶ router, balancer ─▶ proxy
//	   └─────────┴────────┴──────────┴────────────┴───────────────┴──▶ snapshot
//
// Every Go file of the module is read, whatever its build tags; a package that
// is not in the table fails the test, so that its place is decided and not
// drifted into.
package arch_test

import (
	"slices"
	"testing"
)

func TestPackagesImportWhatTheTableAllows(t *testing.T) {
	for _, f := range module(t) {
		for _, fault := range importFaults(f) {
			t.Error(fault)
		}
	}
}

func TestFilesAndFunctionsAreShort(t *testing.T) {
	used := map[string]bool{}
	for _, f := range module(t) {
		for _, fault := range lengthFaults(f, used) {
			t.Error(fault)
		}
	}
	for name := range mayBeLong {
		if pkg := packageOf(name); !used[name] && exists(t, pkg) {
			t.Errorf("%s is short now: take it off the list mayBeLong", name)
		}
	}
}

func TestImportTableRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		file   file
		faults int
	}{
		{name: "a hop that imports another hop", file: code("internal/warmer", self+"internal/store"), faults: 1},
		{name: "a hop that imports app", file: code("internal/api", self+"internal/app"), faults: 1},
		{name: "values that import a hop", file: code("internal/snapshot", self+"internal/source"), faults: 1},
		{name: "values that import a driver", file: code("internal/snapshot", "github.com/redis/go-redis/v9"), faults: 1},
		{name: "a folder of a hop that imports another hop", file: code("internal/source/postgres", self+"internal/store"), faults: 1},
		{name: "Redis in a hop that is not to talk to it", file: code("internal/replica", "github.com/redis/go-redis/v9"), faults: 1},
		{name: "SQL in a hop that is not to talk to it", file: code("internal/store", "database/sql"), faults: 1},
		{name: "a driver in the program's own package", file: code("cmd/routex", "github.com/jackc/pgx/v5"), faults: 1},
		{name: "a hop that imports a test helper", file: code("internal/store", self+"internal/testkit"), faults: 1},
		{name: "a package nobody decided about", file: code("internal/misc"), faults: 1},
		{name: "a hop's test that imports another hop", file: test("internal/warmer", self+"internal/store"), faults: 1},

		{name: "snapshot and its own driver", file: code("internal/store", self+"internal/snapshot", "github.com/redis/go-redis/v9")},
		{name: "a folder of its own", file: code("internal/source", self+"internal/source/postgres", "database/sql")},
		{name: "app, which wires", file: code("internal/app", self+"internal/store", self+"internal/source")},
		{name: "the program, which uses app", file: code("cmd/routex", self+"internal/app")},
		{name: "a hop's test with its helpers", file: test("internal/store", self+"internal/store", self+"internal/testkit")},
		{name: "a test of whole processes", file: test("test/e2e", self+"internal/app", "database/sql")},
		{name: "metrics, which are everybody's", file: code("internal/lease", "github.com/prometheus/client_golang/prometheus")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := importFaults(tt.file); len(got) != tt.faults {
				t.Errorf("%d faults %q, want %d", len(got), got, tt.faults)
			}
		})
	}
}

func TestLengthsRefuse(t *testing.T) {
	short := file{path: "internal/store/a.go", pkg: "internal/store", lines: maxFileLines, functions: []function{{name: "f", lines: maxFunctionLines}}}
	long := file{path: "internal/store/a.go", pkg: "internal/store", lines: maxFileLines + 1, functions: []function{{name: "f", lines: maxFunctionLines + 1}}}
	longTest, generated, listed := long, long, short
	longTest.test, generated.generated = true, true
	listed.pkg, listed.functions = "internal/app", []function{{name: "New", lines: maxFunctionLines + 1}}

	for _, tt := range []struct {
		name   string
		file   file
		faults int
	}{
		{"at the limits", short, 0},
		{"one line beyond both", long, 2},
		{"a long test", longTest, 0},
		{"a long generated file", generated, 0},
		{"a long function on the list", listed, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := lengthFaults(tt.file, map[string]bool{}); len(got) != tt.faults {
				t.Errorf("%d faults %q, want %d", len(got), got, tt.faults)
			}
		})
	}
}

func code(pkg string, imports ...string) file {
	return file{path: pkg + "/x.go", pkg: pkg, imports: imports}
}

func test(pkg string, imports ...string) file {
	return file{path: pkg + "/x_test.go", pkg: pkg, imports: imports, test: true}
}

func exists(t *testing.T, pkg string) bool {
	return slices.ContainsFunc(module(t), func(f file) bool { return f.pkg == pkg })
}
