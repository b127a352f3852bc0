package snapshot

import "slices"

// The schemas this build knows. A schema numbers the form of all records; a
// release that changes so much as a byte of what Encode makes of an unchanged
// row takes the next number, for two releases that write different bytes under
// one number would publish against each other.
const (
	// FirstSchema is that of the first release. A replica that does not say what
	// it reads reads this one.
	FirstSchema = 1
	// Schema is the newest one this build reads and writes. It reads every older
	// one. Content of a greater one it does not serve: the last good copy stays.
	Schema = 1
)

// form is how the records of one kind were written from a schema on.
type form struct {
	since int
	// of makes of a record of this build what was written then, such as a struct
	// without the fields added since. nil: the record is written as it is.
	of func(record any) any
}

// forms lists the forms of each kind, oldest first. A release that changes a
// kind appends a form to it, and gives the one before it an of that leaves out
// what is new; the other kinds keep their numbers. Reading needs no table: what
// was written in any of these forms decodes into today's records.
var forms = map[Kind][]form{
	Channels:     {{since: 1}},
	Models:       {{since: 1}},
	RoutingRules: {{since: 1}},
	Analytics:    {{since: 1}},
}

// FormOf is the schema that content of kind carries when it is written for
// readers of schema: the last one, up to that, which changed the kind's form.
// Whoever reads schema reads that form.
func FormOf(kind Kind, schema int) int { return formOf(kind, schema).since }

func formOf(kind Kind, schema int) form {
	all := forms[kind]
	for _, f := range slices.Backward(all) {
		if f.since <= schema {
			return f
		}
	}
	return all[0] // a schema before the first is nobody's
}

// EncodeAs returns the canonical JSON of a record of kind in the form that
// readers of schema know.
func EncodeAs(kind Kind, schema int, record any) (string, error) {
	if f := formOf(kind, schema); f.of != nil {
		record = f.of(record)
	}
	return Encode(record)
}

// Agreed is the newest schema that a writer of schema own and all replicas read.
func Agreed(own int, replicas []ReplicaInfo) int {
	for _, r := range replicas {
		own = min(own, max(r.Schema, FirstSchema))
	}
	return own
}

// Formed says in which form each kind is written; a missing one, in the newest.
type Formed map[Kind]int

// of is the schema of kind's form.
func (f Formed) of(kind Kind) int {
	if schema, ok := f[kind]; ok {
		return FormOf(kind, schema)
	}
	return FormOf(kind, Schema)
}
