package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFileBytes bounds what is read from any file named by a setting.
const maxFileBytes = 1 << 20

// readSmall returns a file without its one last newline. Its error is a fault.
func readSmall(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", unreadable(err)
	}
	defer func() { _ = f.Close() }()
	body, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return "", unreadable(err)
	}
	if len(body) > maxFileBytes {
		return "", errors.New("is larger than 1 MiB")
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(body), "\n"), "\r"), nil
}

func unreadable(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("does not exist")
	case errors.Is(err, fs.ErrPermission):
		return errors.New("may not be read")
	}
	return errors.New("cannot be read")
}

// readYAML returns the values of a settings file as text, by setting, and how
// and where each was spelled. It reads the text of a scalar, not what YAML
// makes of it, so 0123 stays 0123 in a token and 1e3 in a name.
func readYAML(where, path string) (map[string]any, map[string]string, error) {
	bad := func(fault string) error {
		return &Error{Where: where, Value: path, Fault: fault, Want: "a YAML file of settings, one `key: value` a line"}
	}
	if err := oneLine(path); err != nil {
		return nil, nil, bad(err.Error())
	}
	body, err := readSmall(path)
	if err != nil {
		return nil, nil, bad(err.Error())
	}
	root, err := parseYAML(body)
	if err != nil {
		return nil, nil, bad(err.Error())
	}
	values, spelled := map[string]any{}, map[string]string{}
	for i := 0; root != nil && i+1 < len(root.Content); i += 2 {
		key, node := root.Content[i], root.Content[i+1]
		place := fmt.Sprintf("%s in %s, line %d", shownKey(key), path, key.Line)
		d, err := byKey(key.Value)
		if err != nil {
			return nil, nil, &Error{Where: place, Fault: err.Error(), Want: "a setting that `routex serve --help` lists"}
		}
		if _, twice := values[d.Name]; twice {
			return nil, nil, &Error{Where: place, Fault: "is given a second time", Want: "one value"}
		}
		text, given, err := scalar(node, d.form.list)
		if err != nil {
			return nil, nil, &Error{Where: place, Fault: err.Error(), Want: d.Want()}
		}
		if given {
			values[d.Name], spelled[d.Name] = text, place
		}
	}
	return values, spelled, nil
}

var yamlLine = regexp.MustCompile(`line (\d+)`)

// parseYAML returns the mapping of a document, nil for an empty one. Its error
// is a fault and names no more than the line: the parser quotes values.
func parseYAML(body string) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader([]byte(body)))
	var doc, more yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		if line := yamlLine.FindString(err.Error()); line != "" {
			return nil, errors.New("is not YAML at " + line)
		}
		return nil, errors.New("is not YAML")
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("holds more than one document")
	}
	root := doc.Content[0]
	switch {
	case root.Kind == yaml.ScalarNode && root.Tag == "!!null":
		return nil, nil
	case root.Kind != yaml.MappingNode:
		return nil, errors.New("is not a mapping of settings")
	}
	return root, nil
}

// byKey finds the setting of a key in snake or kebab case.
func byKey(key string) (Descriptor, error) {
	for _, d := range Table {
		switch {
		case d.Key() == "" && key == d.Name:
			return Descriptor{}, errors.New("cannot be set in the file it names")
		case key != "" && (key == d.Key() || key == d.Name):
			return d, nil
		}
	}
	return Descriptor{}, errors.New("is no setting")
}

// shownKey keeps a key that is no word, and may be anything, out of messages.
func shownKey(key *yaml.Node) string {
	if key.Kind == yaml.ScalarNode && optionName.MatchString(strings.ReplaceAll(key.Value, "-", "_")) {
		return key.Value
	}
	return "a key"
}

// scalar returns the text of a value. A key without one counts as not given.
// Where list allows it, a sequence is as good as commas.
func scalar(node *yaml.Node, list bool) (string, bool, error) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	switch {
	case node.Kind == yaml.ScalarNode && node.Tag == "!!null":
		return "", false, nil
	case node.Kind == yaml.ScalarNode:
		return node.Value, true, nil
	case node.Kind != yaml.SequenceNode || !list:
		return "", false, errors.New("is not a single value")
	}
	parts := make([]string, len(node.Content))
	for i, one := range node.Content {
		text, given, err := scalar(one, false)
		if err != nil || !given || strings.Contains(text, ",") {
			return "", false, fmt.Errorf("has entry %d that is not a single value", i+1)
		}
		parts[i] = text
	}
	return strings.Join(parts, ","), true, nil
}
