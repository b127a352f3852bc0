package snapshot_test

import (
	"errors"
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
)

func TestTokens(t *testing.T) {
	list := []snapshot.Secret{snapshot.NewSecret("first"), snapshot.NewSecret("second")}
	tokens, err := snapshot.NewTokens(list)
	if err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string]bool{"first": true, "second": true, "firs": false, "first ": false, "": false} {
		if got := tokens.Has(token); got != want {
			t.Errorf("Has(%q) = %v, want %v", token, got, want)
		}
	}
	var none snapshot.Tokens
	if none.Has("") || none.Has("first") {
		t.Error("an empty list has a token")
	}
	if _, err := snapshot.NewTokens(append(list, snapshot.NewSecret(" "))); !errors.Is(err, snapshot.ErrInvalid) {
		t.Errorf("NewTokens with a blank one = %v, want ErrInvalid", err)
	}
}
