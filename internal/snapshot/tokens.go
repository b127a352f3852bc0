package snapshot

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"strings"
)

// Tokens knows bearer tokens by their hashes, so that comparing them takes the
// same time whatever was sent, its length included.
type Tokens [][sha256.Size]byte

// NewTokens returns the tokens of a list. The error is ErrInvalid for a blank one.
func NewTokens(list []Secret) (Tokens, error) {
	var t Tokens
	for _, token := range list {
		if strings.TrimSpace(token.Reveal()) == "" {
			return nil, fmt.Errorf("a token is blank: %w", ErrInvalid)
		}
		t = append(t, sha256.Sum256([]byte(token.Reveal())))
	}
	return t, nil
}

// Has reports whether token is one of them. All are compared, so the time says
// nothing about which one was close.
func (t Tokens) Has(token string) bool {
	given, found := sha256.Sum256([]byte(token)), 0
	for i := range t {
		found |= subtle.ConstantTimeCompare(t[i][:], given[:])
	}
	return found == 1
}
