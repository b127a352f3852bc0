package api

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// access knows who may do what.
type access struct {
	admin, read snapshot.Tokens
}

func newAccess(admin, read []snapshot.Secret) (a access, err error) {
	if a.admin, err = snapshot.NewTokens(admin); err != nil {
		return access{}, fmt.Errorf("api: admin tokens: %w", err)
	}
	if a.read, err = snapshot.NewTokens(read); err != nil {
		return access{}, fmt.Errorf("api: read tokens: %w", err)
	}
	return a, nil
}

// open reports whether no token is asked for at all.
func (a access) open() bool { return len(a.admin)+len(a.read) == 0 }

// may says whether a token is known, and whether it may write. Both lists are
// compared, so the time says nothing about which one it is in.
func (a access) may(token string) (known, write bool) {
	admin, read := a.admin.Has(token), a.read.Has(token)
	return admin || read, admin
}

// authorize lets a request pass if its bearer token allows its method: an admin
// token everything, a read token what changes nothing.
func (a *API) authorize(next http.Handler) http.Handler {
	return a.admit(next, func(r *http.Request) bool {
		return r.Method == http.MethodGet || r.Method == http.MethodHead
	})
}

// authorizeReading lets a request pass with either token, whatever its method.
func (a *API) authorizeReading(next http.Handler) http.Handler {
	return a.admit(next, func(*http.Request) bool { return true })
}

// admit lets a request pass if it shows an admin token, or a read token where
// that is enough.
func (a *API) admit(next http.Handler, reads func(*http.Request) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.access.open() {
			next.ServeHTTP(w, r)
			return
		}
		token, given := bearer(r)
		known, write := a.access.may(token)
		switch {
		case !given || !known:
			challenge := `Bearer realm="routex"`
			if given {
				challenge += `, error="invalid_token"`
			}
			w.Header().Set("WWW-Authenticate", challenge)
			a.refuse(w, r, fail(codeUnauthenticated, "a bearer token is needed: Authorization: Bearer TOKEN"))
		case !write && !reads(r):
			w.Header().Set("WWW-Authenticate", `Bearer realm="routex", error="insufficient_scope"`)
			a.refuse(w, r, fail(codeForbidden, "this token may only read"))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// bearer returns the token of the Authorization header.
func bearer(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	return token, ok && token != "" && strings.EqualFold(scheme, "Bearer")
}
