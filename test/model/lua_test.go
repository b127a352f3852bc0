package model_test

import (
	"crypto/sha1" //nolint:gosec // Redis names scripts by it
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/parse"
)

// interpreter runs the real scripts on a data set. One serves many data sets,
// one command at a time.
type interpreter struct {
	l       *lua.LState
	scripts map[string]*lua.LFunction // by SHA-1
	names   map[string]string         // SHA-1 by text
	data    *dataSet                  // of the script that runs
}

func newInterpreter() *interpreter {
	in := &interpreter{
		l:       lua.NewState(lua.Options{SkipOpenLibs: true}),
		scripts: map[string]*lua.LFunction{}, names: map[string]string{},
	}
	for _, open := range []lua.LGFunction{lua.OpenBase, lua.OpenTable, lua.OpenString, lua.OpenMath} {
		in.l.Push(in.l.NewFunction(open))
		in.l.Call(0, 0)
	}
	in.l.SetGlobal("redis", in.l.SetFuncs(in.l.NewTable(), map[string]lua.LGFunction{
		"call":         func(l *lua.LState) int { return in.call(l, true) },
		"pcall":        func(l *lua.LState) int { return in.call(l, false) },
		"status_reply": func(l *lua.LState) int { l.Push(single(l, "ok", l.CheckString(1))); return 1 },
		"error_reply":  func(l *lua.LState) int { l.Push(single(l, "err", l.CheckString(1))); return 1 },
	}))
	in.l.SetGlobal("cjson", in.l.SetFuncs(in.l.NewTable(), map[string]lua.LGFunction{
		"decode": decodeJSON, "encode": encodeJSON,
	}))
	return in
}

// protos are the compiled scripts of this process, by text.
var protos sync.Map

func compile(text string) (*lua.FunctionProto, error) {
	if p, ok := protos.Load(text); ok {
		return p.(*lua.FunctionProto), nil
	}
	chunk, err := parse.Parse(strings.NewReader(text), "script")
	if err != nil {
		return nil, err
	}
	p, err := lua.Compile(chunk, "script")
	if err == nil {
		protos.Store(text, p)
	}
	return p, err
}

// load names a script, and compiles it the first time.
func (in *interpreter) load(text string) (sha string, err error) {
	if sha, ok := in.names[text]; ok {
		return sha, nil
	}
	p, err := compile(text)
	if err != nil {
		return "", err
	}
	sum := sha1.Sum([]byte(text)) //nolint:gosec // as above
	sha = hex.EncodeToString(sum[:])
	in.names[text], in.scripts[sha] = sha, in.l.NewFunctionFromProto(p)
	return sha, nil
}

// run runs a script that was loaded. args are those of EVAL after the script.
func (in *interpreter) run(d *dataSet, sha string, args []string) any {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return noInteger
	}
	in.data = d
	in.l.SetGlobal("KEYS", list(in.l, args[1:1+n]))
	in.l.SetGlobal("ARGV", list(in.l, args[1+n:]))
	if err := in.l.CallByParam(lua.P{Fn: in.scripts[sha], NRet: 1, Protect: true}); err != nil {
		in.l.SetTop(0)
		return fault(firstLine(err))
	}
	out := fromLua(in.l.Get(-1))
	in.l.SetTop(0)
	return out
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return "ERR " + line
}

func list(l *lua.LState, texts []string) *lua.LTable {
	t := l.CreateTable(len(texts), 0)
	for i, s := range texts {
		t.RawSetInt(i+1, lua.LString(s))
	}
	return t
}

func single(l *lua.LState, name, value string) *lua.LTable {
	t := l.NewTable()
	t.RawSetString(name, lua.LString(value))
	return t
}

// call is redis.call, and redis.pcall where hard is false.
func (in *interpreter) call(l *lua.LState, hard bool) int {
	args := make([]string, l.GetTop())
	for i := range args {
		switch v := l.Get(i + 1).(type) {
		case lua.LString:
			args[i] = string(v)
		case lua.LNumber:
			args[i] = strconv.FormatFloat(float64(v), 'g', 17, 64)
		default:
			l.RaiseError("Lua redis() command arguments must be strings or integers")
		}
	}
	args[0] = strings.ToLower(args[0])
	reply := in.data.command(args)
	if f, ok := reply.(fault); ok && hard {
		l.RaiseError("%s", string(f))
	}
	l.Push(toLua(l, reply))
	return 1
}

func toLua(l *lua.LState, reply any) lua.LValue {
	switch v := reply.(type) {
	case nil:
		return lua.LFalse
	case int64:
		return lua.LNumber(v)
	case string:
		return lua.LString(v)
	case status:
		return single(l, "ok", string(v))
	case fault:
		return single(l, "err", string(v))
	case []any:
		t := l.CreateTable(len(v), 0)
		for i, e := range v {
			t.RawSetInt(i+1, toLua(l, e))
		}
		return t
	}
	panic(fmt.Sprintf("answer %T", reply))
}

func fromLua(v lua.LValue) any {
	switch v := v.(type) {
	case lua.LString:
		return string(v)
	case lua.LNumber:
		return int64(v)
	case lua.LBool:
		if v {
			return int64(1)
		}
	case *lua.LTable:
		if s, ok := v.RawGetString("err").(lua.LString); ok {
			return fault(s)
		}
		if s, ok := v.RawGetString("ok").(lua.LString); ok {
			return status(s)
		}
		out := []any{}
		for i := 1; ; i++ {
			e := v.RawGetInt(i)
			if e == lua.LNil {
				return out
			}
			out = append(out, fromLua(e))
		}
	}
	return nil
}

func decodeJSON(l *lua.LState) int {
	var v any
	if err := json.Unmarshal([]byte(l.CheckString(1)), &v); err != nil {
		l.RaiseError("cjson: %v", err)
	}
	l.Push(jsonToLua(l, v))
	return 1
}

func jsonToLua(l *lua.LState, v any) lua.LValue {
	switch v := v.(type) {
	case string:
		return lua.LString(v)
	case float64:
		return lua.LNumber(v)
	case bool:
		return lua.LBool(v)
	case []any:
		t := l.CreateTable(len(v), 0)
		for i, e := range v {
			t.RawSetInt(i+1, jsonToLua(l, e))
		}
		return t
	case map[string]any:
		t := l.CreateTable(0, len(v))
		for k, e := range v {
			t.RawSetString(k, jsonToLua(l, e))
		}
		return t
	}
	return lua.LNil
}

// encodeJSON writes a table of texts, which is all the scripts encode.
func encodeJSON(l *lua.LState) int {
	fields := map[string]string{}
	l.CheckTable(1).ForEach(func(k, v lua.LValue) { fields[k.String()] = v.String() })
	text, err := json.Marshal(fields)
	if err != nil {
		l.RaiseError("cjson: %v", err)
	}
	l.Push(lua.LString(text))
	return 1
}
