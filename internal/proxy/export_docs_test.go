package proxy

import "strings"

// Form is how a class of errors is told.
type Form struct {
	Status                        int
	OpenAI, OpenAICode, Anthropic string
}

// Forms are those of all classes that have an answer, by name.
func Forms() map[string]Form {
	out := map[string]Form{}
	for c, f := range forms {
		out[string(c)] = Form{f.status, f.openAI, f.openAICode, f.anthropic}
	}
	return out
}

// Unanswered are the classes that stand in a log alone.
func Unanswered() []string {
	return []string{string(classClientGone), string(classBroken), string(classRefused), string(classThrottled), string(classFailing)}
}

// What a document says of limits.
const (
	StatusOverloaded = statusOverloaded
	StatusClientGone = statusClientGone
	MaxRefusal       = maxRefusal
	MaxText          = maxText
	MaxContent       = maxContent
	MaxDepth         = maxDepth
	BytesPerToken    = bytesPerToken
	Version          = anthropicVersion
)

// Defaults are the options of a Proxy that is given none.
func Defaults() Options {
	o, _ := Options{}.withDefaults()
	return o
}

// Travels reports whether a header goes towards an upstream, and back from one.
func Travels(key string) (there, home bool) { return towards(key), back(key) }

// HasHome reports whether the type has an address of its own.
func HasHome(channelType string) bool { return strings.HasPrefix(homes[channelType], "https://") }
