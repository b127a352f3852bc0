package api_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/routex/cachewarmer/internal/api"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// openRoutes need no token. A route that is not here needs one, or
// TestEveryRouteAsksForAToken fails.
var openRoutes = []string{"GET /livez", "GET /readyz", "GET /healthz"}

// readingPosts change nothing, and need no admin token.
var readingPosts = []string{"POST /api/route/explain"}

// route is one method and pattern of the router.
type route struct{ method, pattern string }

// target is a path that the route's pattern matches, of something there is.
func (r route) target() string {
	if strings.HasPrefix(r.pattern, "/api/routing") {
		return strings.ReplaceAll(r.pattern, "{id}", "r1")
	}
	return strings.NewReplacer("{kind}", "channels", "{id}", "c1", "*", "c1").Replace(r.pattern)
}

func routesOf(t testing.TB, r *rig) []route {
	t.Helper()
	var all []route
	err := chi.Walk(r.Routes(), func(method, pattern string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		all = append(all, route{method, pattern})
		return nil
	})
	if err != nil || len(all) < 25 {
		t.Fatalf("walked %d routes, err %v", len(all), err)
	}
	return all
}

func secrets(tokens ...string) []snapshot.Secret {
	var out []snapshot.Secret
	for _, s := range tokens {
		out = append(out, snapshot.NewSecret(s))
	}
	return out
}

func withTokens(o *api.Options) {
	o.AdminTokens = secrets("older-admin-token", adminToken)
	o.ReadTokens = secrets(readToken, "next-read-token")
}

// TestEveryRouteAsksForAToken walks the router, so that a new route is covered
// without a word here.
func TestEveryRouteAsksForAToken(t *testing.T) {
	for _, rt := range routesOf(t, newRig(t)) {
		if slices.Contains(openRoutes, rt.method+" "+rt.pattern) {
			continue
		}
		t.Run(rt.method+" "+rt.pattern, func(t *testing.T) {
			r := newRig(t, withTokens)
			refused := func(why, authorization string) {
				got := r.call(t, rt.method, rt.target(), "", "Authorization", authorization)
				got.wantCode(t, 401, "UNAUTHENTICATED")
				if !strings.HasPrefix(got.header.Get("WWW-Authenticate"), "Bearer ") {
					t.Errorf("%s: WWW-Authenticate is %q", why, got.header.Get("WWW-Authenticate"))
				}
			}
			refused("no token", "")
			refused("a wrong token", "Bearer wrong")
			refused("half a token", "Bearer "+adminToken[:5])
			refused("a token and more", "Bearer "+adminToken+"x")
			refused("an empty token", "Bearer ")
			refused("another scheme", "Basic "+adminToken)

			for _, token := range []string{readToken, "next-read-token"} {
				got := r.call(t, rt.method, rt.target(), "", "Authorization", "Bearer "+token)
				switch {
				case slices.Contains(readingPosts, rt.method+" "+rt.pattern):
					if got.status == 401 || got.status == 403 {
						t.Errorf("a read token is refused: %d %s", got.status, got.text)
					}
				case rt.method != http.MethodGet:
					got.wantCode(t, 403, "FORBIDDEN")
				case got.status >= 300:
					t.Errorf("a read token is refused a read: %d %s", got.status, got.text)
				}
			}
			for _, token := range []string{adminToken, "older-admin-token"} {
				got := r.call(t, rt.method, rt.target(), "", "Authorization", "bearer  "+token)
				if got.status == 401 || got.status == 403 {
					t.Errorf("an admin token is refused: %d %s", got.status, got.text)
				}
			}
		})
	}
}

func TestOpenRoutesTellNothingOfTheInside(t *testing.T) {
	r := newRig(t, withTokens)
	for _, name := range openRoutes {
		method, target, _ := strings.Cut(name, " ")
		got := r.call(t, method, target, "")
		got.wantOK(t, 200)
		if got.at("data") != nil {
			t.Errorf("%s answers data: %s", name, got.text)
		}
	}
}

func TestReadTokensAloneRefuseWrites(t *testing.T) {
	r := newRig(t, func(o *api.Options) { o.ReadTokens = secrets(readToken) })
	r.call(t, "GET", "/api/cache/stats", "").wantCode(t, 401, "UNAUTHENTICATED")
	r.call(t, "GET", "/api/cache/stats", "", "Authorization", "Bearer "+readToken).wantOK(t, 200)
	r.call(t, "POST", "/api/cache/warm", "", "Authorization", "Bearer "+readToken).wantCode(t, 403, "FORBIDDEN")
	r.call(t, "POST", "/api/cache/warm", "").wantCode(t, 401, "UNAUTHENTICATED")
}

func TestATokenOfBothListsMayWrite(t *testing.T) {
	r := newRig(t, func(o *api.Options) { o.AdminTokens, o.ReadTokens = secrets("both"), secrets("both") })
	r.call(t, "POST", "/api/cache/warm", "", "Authorization", "Bearer both").wantOK(t, 200)
}

func TestWithoutTokensEverybodyMay(t *testing.T) {
	r := newRig(t)
	r.call(t, "GET", "/api/cache/stats", "").wantOK(t, 200)
	r.call(t, "POST", "/api/cache/warm", "").wantOK(t, 200)
}

// TestRefusedWritesDoNothing makes sure that the checks stand in front of the
// handlers and not beside them.
func TestRefusedWritesDoNothing(t *testing.T) {
	r := newRig(t, withTokens)
	r.call(t, "POST", "/api/cache/warm", "", "Authorization", "Bearer "+readToken)
	r.call(t, "POST", "/api/cache/warm", "", "Authorization", "Bearer "+adminToken, "Host", "evil.example")
	r.call(t, "POST", "/api/cache/warm", "", "Authorization", "Bearer "+adminToken, "Sec-Fetch-Site", "cross-site")
	if len(r.fleet.warms) != 0 {
		t.Errorf("%d warms ran", len(r.fleet.warms))
	}
}

func TestHostsThatAreServed(t *testing.T) {
	here := func(o *api.Options) { o.Listen = "127.0.0.1:8080" }
	wide := func(o *api.Options) { o.Listen = ":8080" }
	named := func(o *api.Options) {
		o.Listen, o.AllowedHosts = "Gateway.example:8080", []string{"routex.example", "other.example:443"}
	}
	for _, tt := range []struct {
		name   string
		listen func(*api.Options)
		host   string
		served bool
	}{
		{"loopback name", here, "localhost", true},
		{"loopback name in capitals, with port and dot", here, "LOCALHOST.:9999", true},
		{"a name under localhost", here, "demo.localhost:1", true},
		{"loopback address", here, "127.0.0.1:8080", true},
		{"another loopback address", here, "127.9.9.9", true},
		{"loopback address of IPv6", here, "[::1]:8080", true},
		{"loopback address written as IPv6", here, "[::ffff:127.0.0.1]:8080", true},
		{"a foreign name", here, "evil.example", false},
		{"a foreign name with our port", here, "evil.example:8080", false},
		{"a foreign name that begins like ours", here, "localhost.evil.example", false},
		{"a foreign name that ends like ours", here, "evillocalhost", false},
		{"an address, where only this machine may call", here, "192.168.1.5:8080", false},
		{"the address of everything", here, "0.0.0.0:8080", false},
		{"no host at all", here, "", false},
		{"an address, where others may call", wide, "192.168.1.5:8080", true},
		{"a foreign name, where others may call", wide, "evil.example", false},
		{"the name it listens on", named, "gateway.example:8080", true},
		{"an allowed name", named, "ROUTEX.example", true},
		{"an allowed name on another port", named, "other.example:8443", true},
		{"a name that is not allowed", named, "third.example", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := newRig(t, tt.listen).call(t, "GET", "/api/cache/stats", "", "Host", tt.host)
			if tt.served {
				got.wantOK(t, 200)
			} else {
				got.wantCode(t, 403, "FORBIDDEN")
			}
		})
	}
}

func TestProbesAnswerWhateverTheyAreCalled(t *testing.T) {
	r := newRig(t)
	for _, target := range []string{"/livez", "/readyz", "/healthz"} {
		r.call(t, "GET", target, "", "Host", "10.2.3.4:8080").wantOK(t, 200)
	}
	r.call(t, "GET", "/health", "", "Host", "10.2.3.4:8080").wantCode(t, 403, "FORBIDDEN")
}

func TestPagesOfOtherSitesMayNotWrite(t *testing.T) {
	for _, tt := range []struct {
		name    string
		headers []string
		may     bool
	}{
		{"no browser", nil, true},
		{"our own page", []string{"Sec-Fetch-Site", "same-origin", "Origin", "http://localhost:8080"}, true},
		{"our own page, old browser", []string{"Origin", "http://localhost:8080"}, true},
		{"another site", []string{"Sec-Fetch-Site", "cross-site"}, false},
		{"a sister site", []string{"Sec-Fetch-Site", "same-site"}, false},
		{"another site, old browser", []string{"Origin", "http://evil.example"}, false},
		{"another port of this machine", []string{"Origin", "http://localhost:3000"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := newRig(t).call(t, "POST", "/api/cache/warm", "", tt.headers...)
			if tt.may {
				got.wantOK(t, 200)
			} else {
				got.wantCode(t, 403, "FORBIDDEN")
			}
		})
	}
}
