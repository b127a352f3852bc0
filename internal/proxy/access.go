package proxy

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// access knows who may use the data plane.
type access struct {
	tokens snapshot.Tokens
	open   bool
	// origins keeps web pages from using a gateway that asks for no token.
	origins *http.CrossOriginProtection
}

func newAccess(list []snapshot.Secret, open bool) (access, error) {
	tokens, err := snapshot.NewTokens(list)
	if err != nil {
		return access{}, fmt.Errorf("proxy: client tokens: %w", err)
	}
	return access{tokens: tokens, open: open && len(tokens) == 0, origins: http.NewCrossOriginProtection()}, nil
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
	byBearer, byKey := a.tokens.Has(strings.TrimSpace(bearer)), a.tokens.Has(h.Get("X-Api-Key"))
	return byBearer || byKey
}
