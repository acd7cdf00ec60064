package main

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"godwit/handlers/traces"
	"godwit/rules/drain"
	"godwit/trace"
)

// flushMost is how long the traces that are left may take when the process ends,
// at most: a part of what is kept for its stop, and beside the rest of that.
const flushMost = time.Second

// traces makes who follows sends, and who sends what was seen to the collector;
// both are nil if nothing is to be followed.
func (m *node) traces() (*trace.Tracer, *traces.Exporter) {
	s := m.s
	if s.TraceSample == 0 {
		return nil, nil
	}
	headers := make(http.Header)
	set, _ := pairs(s.TraceHeaders) // checked with the settings, like the next
	for name, value := range set {
		headers.Set(name, value)
	}
	resource := map[string]string{
		"service.name": "godwit", "service.version": revision(), "service.instance.id": s.NodeID, "godwit.revision": s.Revision,
	}
	given, _ := pairs(s.TraceResource)
	maps.Copy(resource, given)
	if s.TraceService != "" {
		resource["service.name"] = s.TraceService
	}
	e := traces.New(traces.Config{
		URL: s.collector(), Headers: headers, Flush: min(flushMost, (s.DrainBudget-drain.Moving(s.DrainBudget))/3),
		Resource: resource, Version: revision(), Log: m.log,
	})
	return trace.New(s.TraceSample, e.End), e
}

// collector is the URL that takes traces.
func (s *Settings) collector() string {
	if s.TraceURL != "" {
		return s.TraceURL
	}
	return strings.TrimSuffix(s.TraceEndpoint, "/") + "/v1/traces"
}

// checkTraces is check for what only a node that traces reads: in a cluster the
// variables may be there for others.
func (s *Settings) checkTraces(bad func(name, format string, args ...any)) {
	for _, c := range []struct{ name, value string }{
		{"OTEL_EXPORTER_OTLP_ENDPOINT", s.TraceEndpoint}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", s.TraceURL},
	} {
		if u, err := url.Parse(c.value); c.value != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
			bad(c.name, "an http:// or https:// URL")
		}
	}
	if s.TraceProtocol != "http/protobuf" {
		bad("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf: no other is spoken (port 4318, mostly)")
	}
	headers, err := pairs(s.TraceHeaders)
	for name, value := range headers {
		if !headerName.MatchString(name) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			err = errPairs
		}
	}
	if err != nil {
		bad("OTEL_EXPORTER_OTLP_HEADERS", "a comma list of name=value, percent-encoded")
	}
	if _, err := pairs(s.TraceResource); err != nil {
		bad("OTEL_RESOURCE_ATTRIBUTES", "a comma list of name=value, percent-encoded")
	}
}

var (
	headerName = regexp.MustCompile(`^[A-Za-z0-9!#$%&'*+.^_|~-]+$`)
	errPairs   = errors.New("no list of name=value")
)

// pairs reads a comma list of name=value, as OpenTelemetry has it.
func pairs(text string) (map[string]string, error) {
	m := make(map[string]string)
	for pair := range strings.SplitSeq(text, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if !ok || name == "" || err != nil {
			return m, errPairs
		}
		m[name] = value
	}
	return m, nil
}
