package settings

import (
	"errors"
	"slices"
	"strings"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

// Origin says where a value came from. The zero Origin is the default.
type Origin struct {
	layer string // flag, environment or file
	name  string // the setting as it was spelled there
}

// String is for people: "default", "flag --listen", "environment
// ROUTEX_LISTEN", "file listen in routex.yaml, line 3".
func (o Origin) String() string {
	if o.layer == "" {
		return "default"
	}
	return o.layer + " " + o.name
}

// AddFlags defines a flag for every setting on fs. They hold text: Load reads
// and checks it, so that a bad value is reported the same from everywhere. The
// help of each takes two lines.
func AddFlags(fs *pflag.FlagSet) {
	for _, d := range Table {
		usage := d.Help + "\n" + d.Env() + ": " + d.Want()
		if d.Note != "" {
			usage += " (default: " + d.Note + ")"
		}
		f := fs.VarPF(&flagText{text: d.Default, kind: d.Type()}, d.Name, "", usage)
		if d.Type() == "bool" {
			f.NoOptDefVal = "true"
		}
	}
}

// flagText is a flag that accepts any text.
type flagText struct{ text, kind string }

func (f *flagText) String() string         { return f.text }
func (f *flagText) Set(given string) error { f.text = given; return nil }
func (f *flagText) Type() string           { return f.kind }

// layers holds the text of every setting from its highest layer.
type layers struct {
	text    *koanf.Koanf // by name
	origins map[string]Origin
	unread  []string // ROUTEX_ variables that no setting reads
}

// gather reads defaults, file, environment and flags, each over the one
// before. fs may be nil.
func gather(fs *pflag.FlagSet, environ []string) (*layers, error) {
	l := &layers{text: koanf.New("."), origins: map[string]Origin{}}
	environ, files, err := readSecretFiles(environ)
	if err != nil {
		return nil, err
	}
	if err := l.defaults(); err != nil {
		return nil, err
	}
	if err := l.file(fs, environ); err != nil {
		return nil, err
	}
	if err := l.environment(environ, files); err != nil {
		return nil, err
	}
	return l, l.flags(fs)
}

// from makes koanf note the origin of each value a layer brings.
func (l *layers) from(layer string, spelled func(name string) string) koanf.Option {
	return koanf.WithMergeFunc(func(src, dest map[string]any) error {
		for name, value := range src {
			dest[name] = value
			l.origins[name] = Origin{layer: layer, name: spelled(name)}
		}
		return nil
	})
}

func (l *layers) defaults() error {
	values := make(map[string]any, len(Table))
	for _, d := range Table {
		values[d.Name] = d.Default
	}
	return l.text.Load(confmap.Provider(values, ""), nil)
}

// file reads the file that a flag or the environment names.
func (l *layers) file(fs *pflag.FlagSet, environ []string) error {
	where, path := "", ""
	variable := descriptor(configName).Env()
	if v := lookup(environ, variable); v != "" {
		where, path = variable, v
	}
	if fs != nil {
		if f := fs.Lookup(configName); f != nil && f.Changed {
			where, path = "--"+configName, f.Value.String()
		}
	}
	if path == "" {
		return nil
	}
	values, spelled, err := readYAML(where, path)
	if err != nil {
		return err
	}
	return l.text.Load(confmap.Provider(values, ""), nil, l.from("file", func(name string) string { return spelled[name] }))
}

func (l *layers) environment(environ []string, files map[string]string) error {
	byEnv := make(map[string]Descriptor, len(Table))
	for _, d := range Table {
		byEnv[d.Env()] = d
	}
	read := func(name, value string) (string, any) {
		d, known := byEnv[name]
		switch {
		case !known:
			l.unread = append(l.unread, name)
			return "", nil
		case value == "" && !d.form.blank:
			return "", nil
		}
		return d.Name, value
	}
	spelled := func(name string) string {
		env := Descriptor{Name: name}.Env()
		if from, ok := files[env]; ok {
			return from
		}
		return env
	}
	vars := env.Provider("", env.Opt{Prefix: envPrefix, TransformFunc: read, EnvironFunc: func() []string { return environ }})
	return l.text.Load(vars, nil, l.from("environment", spelled))
}

func (l *layers) flags(fs *pflag.FlagSet) error {
	if fs == nil {
		return nil
	}
	ours := func(f *pflag.Flag) (string, any) {
		if !slices.ContainsFunc(Table, func(d Descriptor) bool { return d.Name == f.Name }) {
			return "", nil
		}
		return f.Name, f.Value.String()
	}
	given := posflag.ProviderWithFlag(fs, ".", nil, ours)
	return l.text.Load(given, nil, l.from("flag", func(name string) string { return "--" + name }))
}

// lookup returns the last value of a variable, as the system would.
func lookup(environ []string, name string) string {
	for _, pair := range slices.Backward(environ) {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}

// readSecretFiles replaces each ROUTEX_X_FILE of a secret by ROUTEX_X with the
// contents of that file. It also returns, by variable, what it replaced.
func readSecretFiles(environ []string) ([]string, map[string]string, error) {
	files := map[string]string{}
	out := slices.Clone(environ)
	for _, d := range Table {
		path := ""
		if d.Secret {
			path = lookup(environ, d.EnvFile())
			out = slices.DeleteFunc(out, func(pair string) bool { return strings.HasPrefix(pair, d.EnvFile()+"=") })
		}
		if path == "" {
			continue
		}
		if lookup(environ, d.Env()) != "" {
			return nil, nil, &Error{Where: d.EnvFile(), Fault: "is given together with " + d.Env(), Want: "only one of them"}
		}
		body, err := readSmall(path)
		if err == nil && len(body) == 0 {
			err = errors.New("is an empty file")
		}
		if err != nil {
			return nil, nil, &Error{Where: d.EnvFile(), Value: path, Fault: err.Error(), Want: "the path of a file with " + d.Want()}
		}
		out = append(out, d.Env()+"="+body)
		files[d.Env()] = d.EnvFile()
	}
	return out, files, nil
}
