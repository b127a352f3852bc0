package snapshot

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
)

// Secret is a value that must not leave the process in clear. Every way of
// printing or encoding it gives "[secret]"; only Reveal gives the value.
type Secret struct{ value string }

const redacted = "[secret]"

// NewSecret wraps value.
func NewSecret(value string) Secret { return Secret{value} }

// Reveal returns the value itself.
func (s Secret) Reveal() string { return s.value }

// String hides the value from fmt and from logs.
func (s Secret) String() string { return redacted }

// GoString hides the value from %#v.
func (s Secret) GoString() string { return redacted }

// LogValue hides the value from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the value from every text encoder.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Mask shows a secret the way people recognise it: at most three characters
// of its beginning, an ellipsis, its last four. A short one shows nothing.
//
//	sk-ant-api03-…a1b2  becomes  sk-…a1b2
func (s Secret) Mask() string {
	const tail, shortest = 4, 12
	switch {
	case s.value == "":
		return ""
	case len(s.value) < shortest:
		return "…"
	}
	head := s.value[:3]
	return strings.ToValidUTF8(head, "") + "…" + strings.ToValidUTF8(s.value[len(s.value)-tail:], "")
}

// Sealed is a secret sealed for storage, in the form
//
//	sealed:KEYID:BASE64(12 bytes nonce, ciphertext, 16 bytes tag)
//
// It may be stored and logged. Without the key it says nothing but its length.
type Sealed string

// sealedMark begins every sealed value; a value in SQL without it is plain.
const sealedMark = "sealed:"

// IsSealed reports whether s, as found in SQL, has the form of a sealed value.
func IsSealed(s string) bool { return strings.HasPrefix(s, sealedMark) }

// Keyring seals with its first key and opens with all of them. It is safe for
// concurrent use.
type Keyring struct {
	namespace string
	first     string
	keys      map[string]cipher.AEAD
}

// KeyBytes is the length of a sealing key: AES-256.
const KeyBytes = 32

// Key is one sealing key with the id that sealed values carry.
type Key struct {
	ID    string // letters, digits, '.', '_' and '-'
	Bytes []byte // KeyBytes long
}

// String, GoString and LogValue show the id alone.
func (k Key) String() string { return k.ID + ":" + redacted }

// GoString hides the key from %#v.
func (k Key) GoString() string { return k.String() }

// LogValue hides the key from slog.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText hides the key from every text encoder.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Text is the key in the form ParseKeys reads. It is a secret.
func (k Key) Text() string { return k.ID + ":" + base64.StdEncoding.EncodeToString(k.Bytes) }

var keyID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,32}$`)

// NewKeyring returns a keyring bound to namespace. The first key seals.
func NewKeyring(namespace string, keys ...Key) (*Keyring, error) {
	if len(keys) == 0 {
		return nil, fmt.Errorf("keyring needs at least one key: %w", ErrInvalid)
	}
	r := &Keyring{namespace: namespace, first: keys[0].ID, keys: make(map[string]cipher.AEAD, len(keys))}
	for _, k := range keys {
		if !keyID.MatchString(k.ID) {
			return nil, fmt.Errorf("key id %q, want 1 to 32 letters, digits, '.', '_', '-': %w", k.ID, ErrInvalid)
		}
		if len(k.Bytes) != KeyBytes {
			return nil, fmt.Errorf("key %s has %d bytes, want %d: %w", k.ID, len(k.Bytes), KeyBytes, ErrInvalid)
		}
		if _, twice := r.keys[k.ID]; twice {
			return nil, fmt.Errorf("key id %s is given twice: %w", k.ID, ErrInvalid)
		}
		block, err := aes.NewCipher(k.Bytes)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", k.ID, err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", k.ID, err)
		}
		r.keys[k.ID] = aead
	}
	return r, nil
}

// ParseKeys reads "id:base64(32 bytes)", comma-separated. Its errors never
// contain the key.
func ParseKeys(s string) ([]Key, error) {
	var keys []Key
	for i, part := range strings.Split(s, ",") {
		id, encoded, ok := strings.Cut(strings.TrimSpace(part), ":")
		if !ok {
			return nil, fmt.Errorf("key %d has no id, want id:base64(%d bytes): %w", i+1, KeyBytes, ErrInvalid)
		}
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(raw) != KeyBytes {
			return nil, fmt.Errorf("key %d is not base64 of %d bytes: %w", i+1, KeyBytes, ErrInvalid)
		}
		keys = append(keys, Key{ID: id, Bytes: raw})
	}
	return keys, nil
}

// bound is what a sealed value is tied to: moved to another namespace, kind or
// record it does not open.
func (r *Keyring) bound(kind Kind, id string) []byte {
	return []byte(r.namespace + "\x00" + string(kind) + "\x00" + id)
}

// Seal encrypts s for the record id of kind. Sealing twice gives two texts.
func (r *Keyring) Seal(kind Kind, id string, s Secret) Sealed {
	if s.value == "" {
		return ""
	}
	aead := r.keys[r.first]
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails: crypto/rand ends the process instead
	box := aead.Seal(nonce, nonce, []byte(s.value), r.bound(kind, id))
	return Sealed(sealedMark + r.first + ":" + base64.RawStdEncoding.EncodeToString(box))
}

// Open decrypts what Seal made for that record. It returns ErrInvalid for a
// value that was changed, moved, or sealed with a key that is not at hand.
func (r *Keyring) Open(kind Kind, id string, s Sealed) (Secret, error) {
	if s == "" {
		return Secret{}, nil
	}
	rest, ok := strings.CutPrefix(string(s), sealedMark)
	if !ok {
		return Secret{}, fmt.Errorf("secret of %s %q is not sealed: %w", kind, id, ErrInvalid)
	}
	name, encoded, ok := strings.Cut(rest, ":")
	if !ok {
		return Secret{}, fmt.Errorf("secret of %s %q is damaged: %w", kind, id, ErrInvalid)
	}
	aead := r.keys[name]
	if aead == nil {
		return Secret{}, fmt.Errorf("secret of %s %q is sealed with key %q, which is not at hand: %w", kind, id, name, ErrInvalid)
	}
	box, err := base64.RawStdEncoding.DecodeString(encoded)
	if err != nil || len(box) < aead.NonceSize() {
		return Secret{}, fmt.Errorf("secret of %s %q is damaged: %w", kind, id, ErrInvalid)
	}
	plain, err := aead.Open(nil, box[:aead.NonceSize()], box[aead.NonceSize():], r.bound(kind, id))
	if err != nil {
		return Secret{}, fmt.Errorf("secret of %s %q does not open with key %q: %w", kind, id, name, ErrInvalid)
	}
	return Secret{string(plain)}, nil
}

// SealBytes encrypts plain, of any length, for the place that label names:
//
//	length of the key's id (1 byte) │ id │ nonce (12) │ ciphertext │ tag (16)
//
// A label has a space of its own: nothing sealed for a record opens under one,
// nor the other way round.
func (r *Keyring) SealBytes(label string, plain []byte) []byte {
	aead := r.keys[r.first]
	begin := 1 + len(r.first)
	box := make([]byte, begin+aead.NonceSize(), begin+aead.NonceSize()+len(plain)+aead.Overhead())
	box[0] = byte(len(r.first))
	copy(box[1:], r.first)
	_, _ = rand.Read(box[begin:]) // never fails: crypto/rand ends the process instead
	return aead.Seal(box, box[begin:], plain, r.labelled(label, box[:begin]))
}

// OpenBytes decrypts what SealBytes made under label. The result lies in the
// storage of box, which is overwritten. It returns ErrInvalid for anything that
// was changed, cut, moved, or sealed with a key that is not at hand.
func (r *Keyring) OpenBytes(label string, box []byte) ([]byte, error) {
	if len(box) == 0 || len(box) < 1+int(box[0]) {
		return nil, fmt.Errorf("%s is cut short: %w", label, ErrInvalid)
	}
	begin := 1 + int(box[0])
	name := string(box[1:begin])
	aead := r.keys[name]
	if aead == nil {
		return nil, fmt.Errorf("%s is sealed with key %q, which is not at hand: %w", label, name, ErrInvalid)
	}
	text := begin + aead.NonceSize()
	if len(box) < text {
		return nil, fmt.Errorf("%s is cut short: %w", label, ErrInvalid)
	}
	plain, err := aead.Open(box[text:text], box[begin:text], box[text:], r.labelled(label, box[:begin]))
	if err != nil {
		return nil, fmt.Errorf("%s does not open with key %q: %w", label, name, ErrInvalid)
	}
	return plain, nil
}

// labelled is what SealBytes ties to: no record is of the kind "", and the id
// of the key is part of it, so that even that cannot be changed unnoticed.
func (r *Keyring) labelled(label string, id []byte) []byte {
	return append(append(r.bound("", label), 0), id...)
}
