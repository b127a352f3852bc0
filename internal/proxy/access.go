package proxy

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// access knows the clients' tokens by their hashes, so that comparing them takes
// the same time whatever was sent, its length included.
type access struct {
	tokens [][sha256.Size]byte
	open   bool
	// origins keeps web pages from using a gateway that asks for no token.
	origins *http.CrossOriginProtection
}

func newAccess(tokens []snapshot.Secret, open bool) (access, error) {
	a := access{open: open && len(tokens) == 0, origins: http.NewCrossOriginProtection()}
	for _, token := range tokens {
		if strings.TrimSpace(token.Reveal()) == "" {
			return access{}, errors.New("proxy: a client token is blank")
		}
		a.tokens = append(a.tokens, sha256.Sum256([]byte(token.Reveal())))
	}
	return a, nil
}

// check returns why r is not let in, or nil.
func (a *access) check(r *http.Request) *problem {
	if a.open {
		if a.origins.Check(r) != nil {
			return &problem{class: classDenied, message: "a web page of another origin may not use this gateway without a token"}
		}
		return nil
	}
	if len(a.tokens) == 0 {
		return &problem{class: classUnauthenticated, message: "no client token is configured: ROUTEX_CLIENT_TOKENS lists those that are accepted"}
	}
	if a.known(r.Header) {
		return nil
	}
	return &problem{class: classUnauthenticated, message: "a token of this gateway is needed: Authorization: Bearer TOKEN, or x-api-key: TOKEN"}
}

// known compares both headers with every token. Clients that send both, as some
// do out of habit, are let in by either.
func (a *access) known(h http.Header) bool {
	scheme, bearer, _ := strings.Cut(h.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		bearer = ""
	}
	found := 0
	for _, given := range []string{strings.TrimSpace(bearer), h.Get("X-Api-Key")} {
		if given == "" {
			continue
		}
		sum := sha256.Sum256([]byte(given))
		for i := range a.tokens {
			found |= subtle.ConstantTimeCompare(a.tokens[i][:], sum[:])
		}
	}
	return found == 1
}
