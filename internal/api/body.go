package api

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/tailscale/hujson"
)

const (
	maxBodyBytes = 1 << 20
	// maxMarks bounds the brackets and commas of a body, and with them both the
	// depth and the number of values the parser may have to hold. The largest
	// body that means anything has a tenth of it.
	maxMarks = 20_000
)

// limitBody keeps every handler from reading more than maxBodyBytes.
func limitBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
		next.ServeHTTP(w, r)
	})
}

// decode reads the body of r into v, a struct whose optional fields are
// pointers: null and absence are the same. An empty body leaves v as it is.
//
//	shape   JSON of at most 1 MiB; comments and trailing commas are allowed
//	errors  *problem: TOO_LARGE, UNSUPPORTED_MEDIA_TYPE or INVALID_ARGUMENT,
//	        with the path of the field at fault where there is one
func decode(r *http.Request, v any) error {
	body, err := readBody(r)
	if err != nil || len(body) == 0 {
		return err
	}
	if body, err = standardize(body); err != nil {
		return err
	}
	if err := json.Unmarshal(body, v, json.RejectUnknownMembers(true)); err != nil {
		return badJSON(err)
	}
	if path, found := nulAt(body); found {
		return badField(path, "contains the character U+0000")
	}
	return nil
}

// readBody returns the body without a byte order mark, and nothing if it is
// blank. Only a body that says something needs a Content-Type, and a client
// that sends none is taken to mean JSON.
func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, fail(codeTooLarge, "the body is larger than %d bytes", maxBodyBytes)
	}
	if err != nil {
		return nil, fail(codeInvalid, "the body did not arrive whole")
	}
	body = bytes.TrimPrefix(body, []byte("\ufeff"))
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	if given := r.Header.Get("Content-Type"); given != "" && !isJSON(given) {
		return nil, fail(codeMediaType, "the body is sent as %q, want application/json", clip(given, 100))
	}
	if given := r.Header.Get("Content-Encoding"); given != "" && !strings.EqualFold(given, "identity") {
		return nil, fail(codeMediaType, "the body is sent with Content-Encoding %q, want none", clip(given, 100))
	}
	return body, nil
}

func isJSON(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && (t == "application/json" || t == "text/json" || strings.HasSuffix(t, "+json"))
}

// standardize returns body without comments and trailing commas.
func standardize(body []byte) ([]byte, error) {
	if !utf8.Valid(body) {
		return nil, fail(codeInvalid, "the body is not UTF-8")
	}
	marks := 0
	for _, b := range body {
		if b == '[' || b == '{' || b == ',' {
			marks++
		}
	}
	if marks > maxMarks {
		return nil, fail(codeInvalid, "the body has more than %d brackets and commas", maxMarks)
	}
	// The newline ends a comment on the last line, which the parser insists on.
	out, err := hujson.Standardize(append(body, '\n'))
	if err != nil {
		// The parser quotes what it does not understand, which may be a key.
		text, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "hujson: "), "invalid literal:")
		return nil, fail(codeInvalid, "the body is not JSON: %s", strings.TrimSuffix(text, ": "))
	}
	return out, nil
}

// badJSON says which field is at fault, in the words of the API.
func badJSON(err error) *problem {
	if syn, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		if path := dotted(syn.JSONPointer); errors.Is(err, jsontext.ErrDuplicateName) {
			return badField(path, "is given twice")
		} else if path != "" {
			return badField(path, "is not valid JSON: %s", clip(syn.Err.Error(), 100))
		}
		return fail(codeInvalid, "the body is not JSON after byte %d", syn.ByteOffset)
	}
	sem, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return fail(codeInvalid, "the body is not what this call takes")
	}
	path := dotted(sem.JSONPointer)
	switch {
	case errors.Is(err, json.ErrUnknownName):
		return badField(path, "is not a field of this call")
	case path == "":
		return fail(codeInvalid, "the body is %s, want an object", kindOf(sem))
	}
	return badField(path, "is %s, want %s", kindOf(sem), wanted(sem.GoType))
}

// kindOf names what the body holds. It repeats numbers and never text, which
// may be a key.
func kindOf(e *json.SemanticError) string {
	switch e.JSONKind {
	case jsontext.KindString:
		return "a string"
	case jsontext.KindNumber:
		if n := len(e.JSONValue); n > 0 && n <= 30 {
			return string(e.JSONValue)
		}
		return "a number"
	case jsontext.KindTrue, jsontext.KindFalse:
		return "true or false"
	case jsontext.KindBeginObject:
		return "an object"
	case jsontext.KindBeginArray:
		return "a list"
	}
	return "something else"
}

// wanted names what a field takes.
func wanted(t reflect.Type) string {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil {
		return "something else"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice:
		return "a list"
	case reflect.Struct:
		return "an object"
	}
	return "a whole number"
}

// dotted turns a JSON pointer into the path people write: items.channels,
// models[2].
func dotted(p jsontext.Pointer) string {
	var b strings.Builder
	for token := range p.Tokens() {
		switch {
		case token != "" && strings.Trim(token, "0123456789") == "":
			b.WriteString("[" + token + "]")
		case b.Len() > 0:
			b.WriteString("." + token)
		default:
			b.WriteString(token)
		}
	}
	return clip(b.String(), 200)
}

// nulAt finds a string with U+0000 in it, which PostgreSQL cannot hold. The
// body has been decoded before, so reading it again only ends at its end.
func nulAt(body []byte) (path string, found bool) {
	if !bytes.Contains(body, []byte(`\u0000`)) {
		return "", false
	}
	dec := jsontext.NewDecoder(bytes.NewReader(body))
	for {
		token, err := dec.ReadToken()
		if err != nil {
			return "", false
		}
		if token.Kind() == jsontext.KindString && strings.ContainsRune(token.String(), 0) {
			return dotted(dec.StackPointer()), true
		}
	}
}
