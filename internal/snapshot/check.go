package snapshot

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Ceilings of one record. A record beyond them is quarantined.
const (
	maxIDBytes      = 128
	maxNameBytes    = 200
	maxModels       = 2000
	maxPatternBytes = 4096
	maxKeywords     = 500
)

// checkNames looks at what identifies a record, for machines and for people.
func checkNames(id, name string) error {
	for _, f := range []struct {
		field, value string
		max          int
	}{{"id", id, maxIDBytes}, {"name", name, maxNameBytes}} {
		switch {
		case strings.TrimSpace(f.value) == "":
			return fmt.Errorf("%s is blank: %w", f.field, ErrInvalid)
		case len(f.value) > f.max:
			return fmt.Errorf("%s has %d bytes, at most %d are allowed: %w", f.field, len(f.value), f.max, ErrInvalid)
		}
	}
	return nil
}

// Check reports the first thing that keeps the channel from being used.
func (c *Channel) Check() error {
	if err := checkNames(c.ID, c.Name); err != nil {
		return err
	}
	switch {
	case c.APIKey == "" && c.Type != "custom":
		return fmt.Errorf("apiKey is blank: %w", ErrInvalid)
	case c.Weight < 0:
		return fmt.Errorf("weight is %d, want 0 or more: %w", c.Weight, ErrInvalid)
	case len(c.Models) > maxModels:
		return fmt.Errorf("models has %d entries, at most %d are allowed: %w", len(c.Models), maxModels, ErrInvalid)
	}
	for i, m := range c.Models {
		if strings.TrimSpace(m) == "" || len(m) > maxNameBytes {
			return fmt.Errorf("models[%d] is blank or longer than %d bytes: %w", i, maxNameBytes, ErrInvalid)
		}
	}
	if err := oneOf("type", c.Type, ChannelTypes); err != nil {
		return err
	}
	if err := oneOf("status", c.Status, Statuses); err != nil {
		return err
	}
	return checkBaseURL(c.BaseURL)
}

// checkBaseURL accepts "" (the provider's own address) and absolute http and
// https addresses without credentials in them.
func checkBaseURL(s string) error {
	if s == "" || plainURL(s) {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
		return fmt.Errorf("baseUrl is not an http(s) address with a host and without credentials: %w", ErrInvalid)
	}
	return nil
}

// Check reports the first thing that keeps the rule from being used. Whether
// its target exists is for Assemble, which knows the channels.
func (r *Rule) Check() error {
	if err := checkNames(r.ID, r.Name); err != nil {
		return err
	}
	if strings.TrimSpace(r.TargetChannel) == "" {
		return fmt.Errorf("targetChannel is blank: %w", ErrInvalid)
	}
	if err := oneOf("type", r.Type, RuleTypes); err != nil {
		return err
	}
	return r.Condition.Check()
}

// Check reports the first part of the condition that cannot be compiled.
func (c *Condition) Check() error {
	if c.TokenThreshold != nil && *c.TokenThreshold < 0 {
		return fmt.Errorf("condition.tokenThreshold is %d, want 0 or more: %w", *c.TokenThreshold, ErrInvalid)
	}
	if len(c.Keywords) > maxKeywords {
		return fmt.Errorf("condition.keywords has %d entries, at most %d are allowed: %w", len(c.Keywords), maxKeywords, ErrInvalid)
	}
	for i, k := range c.Keywords {
		if strings.TrimSpace(k) == "" {
			return fmt.Errorf("condition.keywords[%d] is blank: %w", i, ErrInvalid)
		}
	}
	for _, p := range []struct{ field, pattern string }{
		{"userPattern", c.UserPattern}, {"modelPattern", c.ModelPattern},
	} {
		if len(p.pattern) > maxPatternBytes {
			return fmt.Errorf("condition.%s has %d bytes, at most %d are allowed: %w", p.field, len(p.pattern), maxPatternBytes, ErrInvalid)
		}
		if _, err := regexp.Compile(p.pattern); err != nil {
			return fmt.Errorf("condition.%s does not compile: %w: %w", p.field, ErrInvalid, err)
		}
	}
	if c.Expr != "" {
		if _, err := CompileExpr(c.Expr); err != nil {
			return fmt.Errorf("condition.expr does not compile: %w", err)
		}
	}
	return nil
}

// plainURL reports whether s is an address of the simplest form, as nearly all
// are: it needs no parser to be found good. Of any other it says nothing.
func plainURL(s string) bool {
	rest, ok := strings.CutPrefix(s, "https://")
	if !ok {
		if rest, ok = strings.CutPrefix(s, "http://"); !ok {
			return false
		}
	}
	for i := range len(rest) {
		switch c := rest[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '.', c == '-':
		case c == '/' && i > 0:
			return strings.Trim(rest[i:], pathLetters) == ""
		default:
			return false
		}
	}
	return rest != ""
}

const pathLetters = "abcdefghijklmnopqrstuvwxyz0123456789/._-"
