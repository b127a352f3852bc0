package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

// trigger is one of those that count changes, as the migrations make it.
type trigger struct {
	name, table, create string
}

var (
	triggerForm = map[string]*regexp.Regexp{
		"sqlite":   regexp.MustCompile(`(?ms)^CREATE TRIGGER (\w+).*?\bON (\w+).*?^END;$`),
		"postgres": regexp.MustCompile(`(?ms)^CREATE TRIGGER (\w+).*?\bON (\w+).*?;$`),
	}
	functionForm = regexp.MustCompile(`(?ms)^CREATE (FUNCTION \w+.*?\$\$;)$`)
)

// triggers reads from the migrations which triggers there have to be, and the
// functions they call.
func (d dialect) triggers() (all []trigger, functions []string, err error) {
	text, err := d.migrationText()
	if err != nil {
		return nil, nil, err
	}
	for _, m := range triggerForm[d.folder].FindAllStringSubmatch(text, -1) {
		all = append(all, trigger{name: m[1], table: m[2], create: m[0]})
	}
	for _, m := range functionForm.FindAllStringSubmatch(text, -1) {
		functions = append(functions, "CREATE OR REPLACE "+m[1])
	}
	if len(all) == 0 {
		return nil, nil, errors.New("the migrations make no triggers")
	}
	return all, functions, nil
}

// migrationText is all migrations of the engine, in their order.
func (d dialect) migrationText() (string, error) {
	folder := "migrations/" + d.folder
	files, err := fs.ReadDir(migrations, folder)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for _, f := range files {
		part, err := fs.ReadFile(migrations, folder+"/"+f.Name())
		if err != nil {
			return "", err
		}
		text.Write(part)
	}
	return text.String(), nil
}

// MendTriggers puts back the triggers that somebody has dropped, changed or
// switched off, and raises every counter: what was changed meanwhile went
// uncounted, and nobody would ever load it. It returns the names of those that
// were missing; with an error they still are.
//
//	errors  snapshot.ErrUnavailable  the database does not answer, or does not allow it
//	cost    one query while all is well
func (d *DB) MendTriggers(ctx context.Context) ([]string, error) {
	t, err := d.alone()
	if err != nil {
		return nil, err
	}
	missing, err := t.missingTriggers(ctx)
	if err != nil || len(missing) == 0 {
		return nil, err
	}
	names := make([]string, len(missing))
	for i, m := range missing {
		names[i] = m.name
	}
	if err := d.writing(ctx, func(t *tx) error { return t.makeTriggers(ctx, missing) }); err != nil {
		return names, fmt.Errorf("put triggers back (%s): %w", strings.Join(names, ", "), err)
	}
	d.m.mended.Add(float64(len(names)))
	return names, nil
}

// missingTriggers lists those that are not there as the migrations made them.
func (t *tx) missingTriggers(ctx context.Context) ([]trigger, error) {
	want, _, err := t.dialect().triggers()
	if err != nil {
		return nil, err
	}
	there := map[string]string{}
	if err := t.each(ctx, "triggers", t.dialect().listTriggers, func(r Rows) error {
		var name, text string
		err := r.Scan(&name, &text)
		there[name] = text
		return err
	}); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(want, func(w trigger) bool {
		text, ok := there[w.name]
		return ok && (text == "" || plain(text) == plain(w.create))
	}), nil
}

// plain is a statement without what does not matter in it.
func plain(statement string) string {
	return strings.TrimRight(strings.Join(strings.Fields(statement), " "), "; ")
}

// makeTriggers makes triggers anew. Only then it raises the counters: whoever
// writes locks the tables first and the counters after them.
func (t *tx) makeTriggers(ctx context.Context, missing []trigger) error {
	_, functions, err := t.dialect().triggers()
	if err != nil {
		return err
	}
	if t.dialect().patience != "" {
		if err := t.exec(ctx, "bound the wait for tables", t.dialect().patience); err != nil {
			return err
		}
	}
	for _, statement := range functions {
		if err := t.exec(ctx, "make a trigger's function", statement); err != nil {
			return err
		}
	}
	for _, m := range missing {
		drop := "DROP TRIGGER IF EXISTS " + m.name
		if t.dialect().forUpdate != "" {
			drop += " ON " + m.table
		}
		if err := t.exec(ctx, "drop trigger "+m.name, drop); err != nil {
			return err
		}
		if err := t.exec(ctx, "make trigger "+m.name, m.create); err != nil {
			return err
		}
	}
	if err := t.lock(ctx); err != nil {
		return err
	}
	if err := t.exec(ctx, "raise revisions", "UPDATE catalog_revision SET revision = revision + 1"); err != nil {
		return err
	}
	return t.exec(ctx, "record that anything may have changed", "INSERT INTO catalog_changes (kind) VALUES ('channels')")
}
