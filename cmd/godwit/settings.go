package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/kelseyhightower/envconfig"
)

// Settings are everything that the environment decides about a node. The tags
// are the whole of it: name, default and what it means.
type Settings struct {
	Listen      string `envconfig:"GODWIT_LISTEN" default:":8080" doc:"address of the public listener; port 0 picks one; unset, with the embedded store and dev tokens: 127.0.0.1:8080"`
	AdminListen string `envconfig:"GODWIT_ADMIN_LISTEN" default:":8081" doc:"address of the admin listener (probes, admin API); port 0 picks one; unset, with the embedded store and dev tokens: 127.0.0.1:8081"`
	RedisURL    string `envconfig:"GODWIT_REDIS_URL" secret:"true" doc:"where the state lives: redis://, rediss://, unix://, redis+sentinel:// or redis+cluster:// (docs/redis.md); empty is the embedded store, one process and nothing kept"`

	AuthSecret   string `envconfig:"GODWIT_AUTH_SECRET" secret:"true" doc:"HS256 key of tokens"`
	AuthJWKS     string `envconfig:"GODWIT_AUTH_JWKS" doc:"keys for EdDSA, ES256 and RS256 tokens: a file or an https URL, read again as it changes"`
	AuthAudience string `envconfig:"GODWIT_AUTH_AUDIENCE" doc:"aud that tokens must hold; empty is not checked"`
	AuthIssuer   string `envconfig:"GODWIT_AUTH_ISSUER" doc:"iss that tokens must have; empty is not checked"`
	AuthDev      bool   `envconfig:"GODWIT_AUTH_DEV" doc:"accept dev:<user> as a token; on by itself with the embedded store and no key"`
	AdminToken   string `envconfig:"GODWIT_ADMIN_TOKEN" secret:"true" doc:"bearer token of the admin API; empty turns it off"`

	AllowedOrigins  []string `envconfig:"GODWIT_ALLOWED_ORIGINS" doc:"origins that browsers may come from, comma list, *.host allowed, * is any; empty is the same origin"`
	NodeID          string   `envconfig:"GODWIT_NODE_ID" doc:"name of this node; empty is a random one"`
	Revision        string   `envconfig:"GODWIT_REVISION" doc:"revision of this node; empty is the build's"`
	NodeURL         string   `envconfig:"GODWIT_NODE_URL" doc:"websocket URL of this node, for redirects"`
	PublicURL       string   `envconfig:"GODWIT_PUBLIC_URL" doc:"websocket URL of the fleet, for redirects"`
	RedirectOrigins []string `envconfig:"GODWIT_REDIRECT_ORIGINS" doc:"where clients may be sent, comma list, *.host allowed; empty is the origins of the two URLs, so nodes that have a GODWIT_NODE_URL each name those of all"`

	HelloTimeout time.Duration `envconfig:"GODWIT_HELLO_TIMEOUT" default:"10s" doc:"time for the first frame"`
	Ping         time.Duration `envconfig:"GODWIT_PING" default:"20s" doc:"a silent socket is pinged after it, and closed after two unanswered"`
	Grace        time.Duration `envconfig:"GODWIT_GRACE" default:"30s" doc:"how long a session without a socket lives"`
	Lease        time.Duration `envconfig:"GODWIT_LEASE" default:"10s" doc:"node lease; a node that cannot renew it refuses writes before it ends"`

	LogMax  int           `envconfig:"GODWIT_LOG_MAX" default:"10000" doc:"entries that a room's log keeps at least"`
	LogAge  time.Duration `envconfig:"GODWIT_LOG_AGE" default:"0s" doc:"entries older than this are not kept; 0s is no limit"`
	LogTTL  time.Duration `envconfig:"GODWIT_LOG_TTL" default:"10m" doc:"life of a room without members"`
	History []string      `envconfig:"GODWIT_HISTORY" doc:"globs of rooms whose past is open to every member, comma list"`

	CallBeat    time.Duration `envconfig:"GODWIT_CALL_BEAT" default:"4s" doc:"beat of a client in a call"`
	CallTimeout time.Duration `envconfig:"GODWIT_CALL_TIMEOUT" default:"15s" doc:"a client without a beat for it is out of the call"`
	RedirectTTL time.Duration `envconfig:"GODWIT_REDIRECT_TTL" default:"15s" doc:"life of a redirect offer"`
	Rebalance   bool          `envconfig:"GODWIT_REBALANCE" default:"true" doc:"move sessions to nodes that have fewer, 1% of them a second, as after a node has joined"`
	DrainBudget time.Duration `envconfig:"GODWIT_DRAIN_BUDGET" default:"60s" doc:"time from SIGTERM to the exit, at most"`

	MaxFrame    int `envconfig:"GODWIT_MAX_FRAME" default:"65536" doc:"bytes of one frame from a client"`
	MaxMessage  int `envconfig:"GODWIT_MAX_MESSAGE" default:"32768" doc:"bytes of one message's data; never more than a frame holds"`
	MaxRooms    int `envconfig:"GODWIT_MAX_ROOMS" default:"256" doc:"rooms of one session"`
	MaxMembers  int `envconfig:"GODWIT_MAX_MEMBERS" default:"10000" doc:"members of one room"`
	MaxSessions int `envconfig:"GODWIT_MAX_SESSIONS" default:"0" doc:"sessions of one node; 0 is no limit"`
	MaxContacts int `envconfig:"GODWIT_MAX_CONTACTS" default:"10000" doc:"contacts of one user"`

	Rate      float64 `envconfig:"GODWIT_RATE" default:"100" doc:"requests a second of one session, in the long run"`
	RateBurst int     `envconfig:"GODWIT_RATE_BURST" default:"200" doc:"requests of one session at once"`
	Outbox    int     `envconfig:"GODWIT_OUTBOX" default:"262144" doc:"bytes of live events that may wait for one socket before it is closed 4200"`
	Compress  bool    `envconfig:"GODWIT_COMPRESSION" default:"false" doc:"negotiate permessage-deflate"`
	RedisWait int     `envconfig:"GODWIT_REDIS_WAIT" default:"0" doc:"replicas that must have a send before it is answered"`

	RedisSharded string `envconfig:"GODWIT_REDIS_SHARDED" default:"off" doc:"sharded channels of a Cluster, one step at a time: off, hear, on (docs/redis.md)"`

	LogLevel   string `envconfig:"GODWIT_LOG_LEVEL" default:"info" doc:"debug, info, warn or error; what operators change is logged at any"`
	LogFormat  string `envconfig:"GODWIT_LOG_FORMAT" doc:"text or json; empty is text on a terminal, else json"`
	Pprof      bool   `envconfig:"GODWIT_PPROF" default:"false" doc:"serve /debug/pprof on the admin listener, to who has GODWIT_ADMIN_TOKEN"`
	ProfileDir string `envconfig:"GODWIT_PROFILE_DIR" doc:"directory for profiles of CPU and memory: a SIGUSR1 begins, the next ends; empty is none"`

	TraceSample   float64 `envconfig:"GODWIT_TRACE_SAMPLE" default:"0" doc:"share of the sends that are traced, 0 to 1, over every node that traces (docs/traces.md); 0 is off, and those below are not read"`
	TraceEndpoint string  `envconfig:"OTEL_EXPORTER_OTLP_ENDPOINT" default:"http://localhost:4318" doc:"collector of traces, OTLP over HTTP; /v1/traces is added"`
	TraceURL      string  `envconfig:"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" doc:"whole URL of the same, instead"`
	TraceHeaders  string  `envconfig:"OTEL_EXPORTER_OTLP_HEADERS" secret:"true" doc:"headers for the collector: name=value, comma list, percent-encoded"`
	TraceProtocol string  `envconfig:"OTEL_EXPORTER_OTLP_PROTOCOL" default:"http/protobuf" doc:"there is no other"`
	TraceService  string  `envconfig:"OTEL_SERVICE_NAME" doc:"service.name of the traces; empty is godwit"`
	TraceResource string  `envconfig:"OTEL_RESOURCE_ATTRIBUTES" doc:"what else the traces say of where they come from: name=value, comma list, percent-encoded"`
}

// environment makes environment pairs a lookup.
func environment(env []string) map[string]string {
	m := make(map[string]string, len(env))
	for _, pair := range env {
		if k, v, ok := strings.Cut(pair, "="); ok {
			m[k] = v
		}
	}
	return m
}

// problem is what is wrong with the setting of that name.
type problem struct {
	name string
	err  error
}

// readSettings reads the settings from an environment. The error names every
// wrong value, in the order of the table, and what is expected in its place;
// warnings name variables that no setting has.
func readSettings(env []string) (s Settings, warnings []string, err error) {
	vars := environment(env)
	known, place := make(map[string]bool), make(map[string]int)
	unread := make(map[string]bool)
	var wrong []problem
	v := reflect.ValueOf(&s).Elem()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := f.Tag.Get("envconfig")
		known[name], place[name] = true, i
		if f.Tag.Get("secret") != "" {
			known[name+"_FILE"] = true
			if err := fromFile(vars, name); err != nil {
				wrong = append(wrong, problem{name, err})
				unread[name] = true
				continue
			}
		}
		if err := readField(v.Field(i), f, vars); err != nil {
			wrong = append(wrong, problem{name, err})
			unread[name] = true
		}
	}
	for name := range vars {
		if strings.HasPrefix(name, "GODWIT_") && !known[name] && !strings.HasPrefix(name, "GODWIT_TEST_") {
			warnings = append(warnings, name)
		}
	}
	if s.RedisURL == "" && s.devTokens() {
		s.stayHere(vars)
	}
	wrong = append(wrong, s.check(unread)...)
	slices.SortStableFunc(wrong, func(a, b problem) int { return place[a.name] - place[b.name] })
	var all []error
	for _, p := range wrong {
		all = append(all, p.err)
	}
	return s, warnings, errors.Join(all...)
}

// devTokens says whether dev:<user> is a token.
func (s *Settings) devTokens() bool {
	return s.AuthDev || s.RedisURL == "" && s.AuthSecret == "" && s.AuthJWKS == ""
}

// stayHere makes a node that was only tried out, and lets anybody in as
// anybody, listen where this machine alone can reach it, unless an address is
// asked for.
func (s *Settings) stayHere(vars map[string]string) {
	for name, addr := range map[string]*string{"GODWIT_LISTEN": &s.Listen, "GODWIT_ADMIN_LISTEN": &s.AdminListen} {
		if vars[name] == "" {
			*addr = "127.0.0.1" + *addr
		}
	}
}

// readField reads one setting by itself, so that one that cannot be read does
// not hide the next.
func readField(into reflect.Value, f reflect.StructField, vars map[string]string) error {
	name := f.Tag.Get("envconfig")
	value, set := vars[name]
	if !set || value == "" {
		value = f.Tag.Get("default")
	}
	one := reflect.New(reflect.StructOf([]reflect.StructField{{
		Name: f.Name, Type: f.Type, Tag: reflect.StructTag(fmt.Sprintf(`envconfig:%q`, scratch)),
	}}))
	if err := os.Setenv(scratch, value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer os.Unsetenv(scratch)
	if value != "" {
		if err := envconfig.Process("", one.Interface()); err != nil {
			return fmt.Errorf("%s: %s", name, expected(f.Type))
		}
		into.Set(one.Elem().Field(0))
	}
	return nil
}

// scratch is the one variable that envconfig is shown at a time.
const scratch = "GODWIT_TEST_SCRATCH"

func expected(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "expected a duration such as 30s, 1m30s or 250ms"
	case t.Kind() == reflect.Int:
		return "expected a whole number"
	case t.Kind() == reflect.Float64:
		return "expected a number"
	case t.Kind() == reflect.Bool:
		return "expected true or false"
	}
	return "expected another form"
}

// fromFile reads a secret from the file that NAME_FILE names. One that is given
// itself may have been a file, too, as a key of a Kubernetes Secret is.
func fromFile(vars map[string]string, name string) error {
	path := vars[name+"_FILE"]
	if path == "" {
		if value, ok := vars[name]; ok {
			vars[name] = oneLine(value)
		}
		return nil
	}
	if vars[name] != "" {
		return fmt.Errorf("%s and %s_FILE are both set: expected one of them", name, name)
	}
	value, err := secretIn(path)
	if err != nil {
		return fmt.Errorf("%s_FILE: %w", name, err)
	}
	vars[name] = value
	return nil
}

// secretIn reads a secret from a file, which may end as an editor ends it. One that
// is empty is not taken for none: nobody names a file to do without a key.
func secretIn(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("expected a file that can be read: %w", err)
	}
	secret := oneLine(string(b))
	if strings.TrimSpace(secret) == "" {
		return "", errors.New("expected a file with something in it: it is empty")
	}
	return secret, nil
}

// oneLine is a secret without the end of its line.
func oneLine(s string) string { return strings.TrimSuffix(strings.TrimSuffix(s, "\n"), "\r") }

// printSettings writes the table that `godwit serve -h` and the README show.
func printSettings(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "NAME\tDEFAULT\tMEANING")
	for f := range settingFields() {
		fmt.Fprintf(tw, "%s\t%s\t%s\n", f.name, f.def, f.doc)
	}
	tw.Flush()
}

// settingsMarkdown is the same as a table of the README.
func settingsMarkdown() string {
	var b strings.Builder
	b.WriteString("| name | default | meaning |\n|---|---|---|\n")
	for f := range settingFields() {
		def := "`" + f.def + "`"
		if f.def == "empty" {
			def = "empty"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.name, def, strings.ReplaceAll(f.doc, "|", `\|`))
	}
	return b.String()
}

type settingField struct{ name, def, doc string }

func settingFields() func(func(settingField) bool) {
	return func(yield func(settingField) bool) {
		for f := range reflect.TypeFor[Settings]().Fields() {
			def := f.Tag.Get("default")
			if def == "" {
				def = "empty"
				if f.Type.Kind() == reflect.Bool {
					def = "false"
				}
			}
			doc := f.Tag.Get("doc")
			if f.Tag.Get("secret") != "" {
				doc += "; or in a file, by " + f.Tag.Get("envconfig") + "_FILE"
			}
			if !yield(settingField{f.Tag.Get("envconfig"), def, doc}) {
				return
			}
		}
	}
}
