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

// Check reports the first thing that keeps the channel from being used.
func (c *Channel) Check() error {
	switch {
	case strings.TrimSpace(c.ID) == "":
		return fmt.Errorf("id is blank: %w", ErrInvalid)
	case len(c.ID) > maxIDBytes:
		return fmt.Errorf("id has %d bytes, at most %d are allowed: %w", len(c.ID), maxIDBytes, ErrInvalid)
	case strings.TrimSpace(c.Name) == "":
		return fmt.Errorf("name is blank: %w", ErrInvalid)
	case len(c.Name) > maxNameBytes:
		return fmt.Errorf("name has %d bytes, at most %d are allowed: %w", len(c.Name), maxNameBytes, ErrInvalid)
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
	if s == "" {
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
	switch {
	case strings.TrimSpace(r.ID) == "":
		return fmt.Errorf("id is blank: %w", ErrInvalid)
	case len(r.ID) > maxIDBytes:
		return fmt.Errorf("id has %d bytes, at most %d are allowed: %w", len(r.ID), maxIDBytes, ErrInvalid)
	case strings.TrimSpace(r.Name) == "":
		return fmt.Errorf("name is blank: %w", ErrInvalid)
	case len(r.Name) > maxNameBytes:
		return fmt.Errorf("name has %d bytes, at most %d are allowed: %w", len(r.Name), maxNameBytes, ErrInvalid)
	case strings.TrimSpace(r.TargetChannel) == "":
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
	return nil
}
