package arch_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// file is what the tests look at in one Go file of the module.
type file struct {
	path      string // from the module's root, with slashes
	pkg       string // its folder
	imports   []string
	lines     int
	functions []function
	test      bool // of a package, or of the whole
	generated bool
}

// function is one function or method with a body.
type function struct {
	name  string // "New", "Store.Load"
	at    int    // line
	lines int    // between its braces
}

// module returns every Go file of the module. The files of nested modules and
// of testdata folders are not part of it.
func module(t *testing.T) []file {
	t.Helper()
	files, err := parseModule()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

var parseModule = sync.OnceValues(func() ([]file, error) {
	root := filepath.Join("..", "..")
	var files []file
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != root && apart(name) {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		f, err := parseFile(name, filepath.ToSlash(rel))
		files = append(files, f)
		return err
	})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("no Go file below %s", root)
	}
	return files, err
})

// apart reports whether a folder is no part of the module.
func apart(dir string) bool {
	switch base := filepath.Base(dir); {
	case strings.HasPrefix(base, "."), strings.HasPrefix(base, "_"):
		return true
	case base == "testdata", base == "vendor", base == "node_modules":
		return true
	}
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

func parseFile(name, rel string) (file, error) {
	body, err := os.ReadFile(name)
	if err != nil {
		return file{}, err
	}
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, name, body, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return file{}, err
	}
	f := file{
		path:      rel,
		pkg:       path.Dir(rel),
		lines:     bytes.Count(body, []byte("\n")),
		test:      strings.HasSuffix(rel, "_test.go") || strings.HasPrefix(rel, "test/"),
		generated: ast.IsGenerated(tree),
	}
	for _, spec := range tree.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return file{}, fmt.Errorf("%s: %w", rel, err)
		}
		f.imports = append(f.imports, imported)
	}
	for _, decl := range tree.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok && fn.Body != nil {
			begin, end := set.Position(fn.Body.Lbrace), set.Position(fn.Body.Rbrace)
			f.functions = append(f.functions, function{
				name:  functionName(fn),
				at:    set.Position(fn.Pos()).Line,
				lines: max(0, end.Line-begin.Line-1),
			})
		}
	}
	return f, nil
}

// functionName is the name of a function, after that of its receiver's type.
func functionName(fn *ast.FuncDecl) string {
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return fn.Name.Name
	}
	typ := fn.Recv.List[0].Type
	for {
		switch t := typ.(type) {
		case *ast.StarExpr:
			typ = t.X
		case *ast.IndexExpr:
			typ = t.X
		case *ast.IndexListExpr:
			typ = t.X
		case *ast.Ident:
			return t.Name + "." + fn.Name.Name
		default:
			return fn.Name.Name
		}
	}
}
