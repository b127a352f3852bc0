package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// access knows the tokens by their hashes, so that comparing them takes the
// same time whatever was sent, its length included.
type access struct {
	admin, read [][sha256.Size]byte
}

func newAccess(admin, read []snapshot.Secret) (access, error) {
	var a access
	for _, list := range []struct {
		from []snapshot.Secret
		to   *[][sha256.Size]byte
	}{{admin, &a.admin}, {read, &a.read}} {
		for _, token := range list.from {
			if strings.TrimSpace(token.Reveal()) == "" {
				return access{}, errors.New("api: a token is blank")
			}
			*list.to = append(*list.to, sha256.Sum256([]byte(token.Reveal())))
		}
	}
	return a, nil
}

// open reports whether no token is asked for at all.
func (a access) open() bool { return len(a.admin)+len(a.read) == 0 }

// may says whether a token is known, and whether it may write. Every known
// token is compared, so the time says nothing about which one was close.
func (a access) may(token string) (known, write bool) {
	given := sha256.Sum256([]byte(token))
	among := func(list [][sha256.Size]byte) bool {
		found := 0
		for i := range list {
			found |= subtle.ConstantTimeCompare(list[i][:], given[:])
		}
		return found == 1
	}
	admin, read := among(a.admin), among(a.read)
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
