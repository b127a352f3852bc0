package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

const (
	maxAnswerBytes = 64 << 20
	// answerWithin is how long a call may take, waiting for the fleet aside.
	answerWithin = time.Minute
)

// client calls the control API of one replica.
type client struct {
	base   *url.URL
	token  string      // "" for none
	header http.Header // of every request, besides the usual
	http   *http.Client
}

// newClient returns a client of server, given as host:port or http(s) URL.
func newClient(server, token string) (*client, error) {
	if !strings.Contains(server, "://") {
		server = "http://" + server
	}
	u, err := url.Parse(server)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, misuse("--server is not an address: want host:port or http(s)://host:port, such as http://127.0.0.1:8080")
	}
	return &client{base: u, token: token, http: &http.Client{}}, nil
}

// answer is what the control API answers, in full and taken apart.
type answer struct {
	raw     []byte
	Success bool              `json:"success"`
	Data    json.RawMessage   `json:"data"`
	Message string            `json:"message"`
	Warning string            `json:"warning"`
	Receipt *snapshot.Receipt `json:"receipt"`
	Error   *struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Details struct {
			Receipt  *snapshot.Receipt   `json:"receipt"`
			Data     json.RawMessage     `json:"data"`
			Progress []snapshot.Progress `json:"progress"`
		} `json:"details"`
	} `json:"error"`
}

// get asks for path.
func (c *client) get(ctx context.Context, path string, query url.Values) (*answer, error) {
	return c.call(ctx, http.MethodGet, path, query, nil)
}

// asRead is a body that is sent as it is. It may not be JSON, for comments in it.
type asRead []byte

// call sends body as JSON (nil for none) and returns the answer.
//
//	errors  *coded with exitMisused       the server calls the request invalid
//	        *coded with exitNotConverged  done, but not on every replica in
//	                                      time; the answer is returned as well
//	        otherwise the server refused, failed, or did not answer; the
//	        answer is returned if there was one
func (c *client) call(ctx context.Context, method, path string, query url.Values, body any) (*answer, error) {
	req, err := c.request(ctx, method, path, query, body)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no answer from %s: %w", c.base, reason(err))
	}
	defer func() { _ = res.Body.Close() }()
	a := &answer{}
	if a.raw, err = io.ReadAll(io.LimitReader(res.Body, maxAnswerBytes)); err != nil {
		return nil, fmt.Errorf("half an answer from %s: %w", c.base, reason(err))
	}
	if err := json.Unmarshal(a.raw, a); err != nil || a.Success == (a.Error != nil) {
		return nil, fmt.Errorf("%s answers %s, and not as Routex does", c.base, res.Status)
	}
	if a.Error != nil {
		return a, c.refused(res.StatusCode, a)
	}
	return a, nil
}

func (c *client) request(ctx context.Context, method, path string, query url.Values, body any) (*http.Request, error) {
	u := c.base.JoinPath(path)
	u.RawQuery = query.Encode()
	var text bytes.Buffer
	if raw, ok := body.(asRead); ok {
		text.Write(raw)
	} else if body != nil {
		if err := json.NewEncoder(&text).Encode(body); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), &text)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, c.header)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return req, nil
}

// refused turns a failure of the API into an error with its exit code.
func (c *client) refused(status int, a *answer) error {
	err := fmt.Errorf("%s: %s", a.Error.Code, a.Error.Message)
	switch {
	case a.Error.Code == "NOT_CONVERGED":
		return &coded{exitNotConverged, err}
	case status == http.StatusBadRequest:
		return &coded{exitMisused, err}
	case status == http.StatusUnauthorized && c.token == "":
		return fmt.Errorf("%w; give --token or ROUTEX_ADMIN_TOKEN", err)
	}
	return err
}

// reason leaves out the method and address that every error of package http
// begins with, because the sentence around it says them.
func reason(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		if u.Timeout() {
			return errors.New("it takes too long")
		}
		return u.Err
	}
	return err
}
