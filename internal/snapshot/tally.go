package snapshot

// Tally adds up what a set's digest and size are made of while its records come
// in, so that nobody has to go over all of them again. The zero value is that of
// no records.
type Tally struct {
	digest Digest
	bytes  int
}

// Add counts a record in.
func (t *Tally) Add(id, body string) {
	t.digest, t.bytes = t.digest+hashRecord(id, body), t.bytes+len(id)+len(body)
}

// Drop counts out a record that was counted in before.
func (t *Tally) Drop(id, body string) {
	t.digest, t.bytes = t.digest-hashRecord(id, body), t.bytes-len(id)-len(body)
}

// Set returns the set of recs, which t has counted.
func (t *Tally) Set(kind Kind, recs map[string]string) *Set {
	return &Set{kind: kind, recs: gather(len(recs), named(recs), asItIs), digest: t.digest, bytes: t.bytes}
}
