package snapshot

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"
)

// Ceilings of a Condition's Expr. Without loops, ranges and joined strings its
// cost is that of at most maxExprNodes passes over the text.
const (
	maxExprBytes  = 2048
	maxExprNodes  = 100
	maxExprMemory = 10_000 // elements of arrays while it runs
)

// exprBuiltins are the functions that an expression may call. They depend on
// their arguments alone, return at most as much as they are given, and loop
// over nothing but one string.
var exprBuiltins = []string{
	"len", "lower", "upper", "trim", "trimPrefix", "trimSuffix", "hasPrefix", "hasSuffix",
	"indexOf", "lastIndexOf", "abs", "min", "max",
}

// exprFacts is what an expression sees of a request: an Ask, field by field.
type exprFacts struct {
	Model     string `expr:"model"`
	Text      string `expr:"text"`
	Tokens    int    `expr:"tokens"`
	Messages  int    `expr:"messages"`
	MaxTokens int    `expr:"maxTokens"`
	HasTools  bool   `expr:"hasTools"`
	HasImages bool   `expr:"hasImages"`
	Stream    bool   `expr:"stream"`
	Session   string `expr:"session"`
	Path      string `expr:"path"`
	Wire      string `expr:"wire"`
}

// Expr is a compiled Condition.Expr. It may be used by several goroutines.
type Expr struct{ program *vm.Program }

// CompileExpr reads an expression in the language of expr-lang/expr that says
// true or false of a request.
//
//	names   model text tokens messages maxTokens hasTools hasImages stream
//	        session path wire, the fields of an Ask
//	refused time and chance, loops, ranges (..), joined strings, patterns that
//	        are not literals: so the same request gets the same answer, in
//	        bounded time and memory
//	errors  ErrInvalid, with the column at fault
func CompileExpr(source string) (x *Expr, err error) {
	defer func() {
		if r := recover(); r != nil {
			x, err = nil, fmt.Errorf("%w: the compiler of expressions gave up: %v", ErrInvalid, r)
		}
	}()
	if len(source) > maxExprBytes {
		return nil, fmt.Errorf("%w: it has %d bytes, at most %d are allowed", ErrInvalid, len(source), maxExprBytes)
	}
	guard := &exprGuard{}
	options := []expr.Option{
		expr.Env(exprFacts{}), expr.AsBool(), expr.WarnOnAny(), expr.MaxNodes(maxExprNodes),
		expr.DisableAllBuiltins(), expr.Patch(guard),
	}
	for _, name := range exprBuiltins {
		options = append(options, expr.EnableBuiltin(name))
	}
	program, err := expr.Compile(source, options...)
	if err == nil && guard.err != nil {
		err = guard.err.Bind(file.NewSource(source))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrInvalid, exprFault(err))
	}
	return &Expr{program}, nil
}

// exprFault is the one line that says what is wrong, and where.
func exprFault(err error) string {
	var f *file.Error
	switch {
	case !errors.As(err, &f):
		return err.Error()
	case f.Line > 1:
		return fmt.Sprintf("%s at line %d, column %d", f.Message, f.Line, f.Column+1)
	}
	return fmt.Sprintf("%s at column %d", f.Message, f.Column+1)
}

// exprGuard finds what an expression must not contain, after its types are
// known and before anything of it is computed.
type exprGuard struct{ err *file.Error }

// Visit looks at one node.
func (g *exprGuard) Visit(node *ast.Node) {
	// The parser knows those that loop apart from the list of functions.
	if f, ok := (*node).(*ast.BuiltinNode); ok && g.err == nil && !slices.Contains(exprBuiltins, f.Name) {
		g.err = &file.Error{Location: f.Location(), Message: f.Name + " is not allowed"}
	}
	b, ok := (*node).(*ast.BinaryNode)
	if !ok || g.err != nil {
		return
	}
	why := ""
	switch b.Operator {
	case "..":
		why = "ranges are not allowed, compare with >= and <="
	case "+":
		if !isNumber(b.Left) || !isNumber(b.Right) {
			why = "only numbers can be added"
		}
	case "matches":
		if _, literal := b.Right.(*ast.StringNode); !literal {
			why = "the pattern of matches has to be a literal"
		}
	}
	if why != "" {
		g.err = &file.Error{Location: b.Location(), Message: why}
	}
}

func isNumber(n ast.Node) bool {
	t := n.Type()
	return t != nil && (t.Kind() == reflect.Int || t.Kind() == reflect.Float64)
}

// exprRun is what one run needs, kept for the next.
type exprRun struct {
	vm    vm.VM
	facts exprFacts
}

var exprRuns = sync.Pool{New: func() any { return &exprRun{vm: vm.VM{MemoryBudget: maxExprMemory}} }}

// Holds says what the expression says of a request. One that cannot be
// computed, such as a division by zero, does not hold, and comes with the
// reason. It costs about a microsecond, and a pass over a.Text for each use of
// it.
func (x *Expr) Holds(a *Ask) (bool, error) {
	r, _ := exprRuns.Get().(*exprRun)
	defer func() {
		r.facts = exprFacts{}
		clear(r.vm.Stack[:cap(r.vm.Stack)]) // the pool must not keep the text
		clear(r.vm.Variables)
		exprRuns.Put(r)
	}()
	r.facts = exprFacts{
		Model: a.Model, Text: a.Text, Tokens: a.Tokens, Messages: a.Messages, MaxTokens: a.MaxTokens,
		HasTools: a.HasTools, HasImages: a.HasImages, Stream: a.Stream,
		Session: a.Session, Path: a.Path, Wire: string(a.Wire),
	}
	out, err := r.vm.Run(x.program, &r.facts)
	if err != nil {
		return false, errors.New(exprFault(err))
	}
	holds, _ := out.(bool) // CompileExpr saw to the type
	return holds, nil
}
