package settings

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// tokens takes bearer tokens. Several at once allow a rotation.
func tokens(at func(*Settings) *[]snapshot.Secret) form {
	f := field("list", "tokens of printable ASCII without spaces, comma-separated", at, parseTokens,
		func(v []snapshot.Secret) string { return counted(len(v), "token") })
	f.list = true
	return f
}

func parseTokens(given string) ([]snapshot.Secret, error) {
	if given == "" {
		return nil, errors.New("is empty")
	}
	var out []snapshot.Secret
	for i, token := range entries(given) {
		if token == "" {
			return nil, fmt.Errorf("has entry %d blank", i+1)
		}
		if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, fmt.Errorf("has entry %d with a character that no header can carry", i+1)
		}
		out = append(out, snapshot.NewSecret(token))
	}
	return out, nil
}

func counted(n int, noun string) string {
	switch n {
	case 0:
		return ""
	case 1:
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// wantKeys also says how to make a key.
const wantKeys = "id:base64(32 bytes), comma-separated, such as k1:$(openssl rand -base64 32)"

// sealingKeys takes the keys that seal provider keys. Their ids are shown:
// every sealed text carries one.
func sealingKeys(at func(*Settings) *[]snapshot.Key) form {
	f := field("list", wantKeys, at, parseKeys, func(keys []snapshot.Key) string {
		ids := make([]string, len(keys))
		for i, k := range keys {
			ids[i] = k.ID
		}
		return strings.Join(ids, ",")
	})
	f.list = true
	return f
}

// parseKeys says only the place of a bad key, never what it holds: a key given
// without its id looks like an id.
func parseKeys(given string) ([]snapshot.Key, error) {
	if given == "" {
		return nil, errors.New("is empty")
	}
	var keys []snapshot.Key
	for i, part := range entries(given) {
		one, err := snapshot.ParseKeys(part)
		switch {
		case !strings.Contains(part, ":"):
			return nil, fmt.Errorf("has key %d without an id", i+1)
		case err != nil:
			return nil, fmt.Errorf("has key %d that is not base64 of %d bytes", i+1, snapshot.KeyBytes)
		}
		if _, err := snapshot.NewKeyring("any", one...); err != nil {
			return nil, fmt.Errorf("has key %d with an id that is not 1 to 32 letters, digits, '.', '_' or '-'", i+1)
		}
		if slices.ContainsFunc(keys, func(k snapshot.Key) bool { return k.ID == one[0].ID }) {
			return nil, fmt.Errorf("has key %d with the id of another", i+1)
		}
		keys = append(keys, one...)
	}
	return keys, nil
}
