package snapshot_test

import (
	"net/url"
	"testing"

	"pgregory.net/rapid"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// TestPlainAddressesParse holds the short way to the parser's word: what it
// takes, the parser takes, with a host and without credentials.
func TestPlainAddressesParse(t *testing.T) {
	some := 0
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(
			rapid.StringMatching(`https?://[a-z0-9.-]{0,6}(/[a-z0-9/._-]{0,6})?`),
			rapid.StringMatching(`https?:/{0,3}[a-c@:%/?#\[\]. A-]{0,6}`),
			rapid.String(),
		).Draw(t, "address")
		if !snapshot.PlainURL(s) {
			return
		}
		some++
		if u, err := url.Parse(s); err != nil || u.Host == "" || u.User != nil {
			t.Fatalf("%q counts as plain, the parser says %+v, %v", s, u, err)
		}
	})
	if some == 0 || !snapshot.PlainURL("https://api.example.com/v1") {
		t.Error("ordinary addresses are not plain")
	}
}
