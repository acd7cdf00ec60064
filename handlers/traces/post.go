package traces

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// answerBytes is how much of an answer is read, so that its connection can be
// used again. What it says is not looked at.
const answerBytes = 64 << 10

// post hands the batch to the collector.
func (e *Exporter) post(ctx context.Context) error {
	// TracesData is, byte for byte, the request that a collector takes. The type
	// of that name would bring all of gRPC into the binary.
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: []*tracepb.ResourceSpans{{
		Resource:   e.resource,
		ScopeSpans: []*tracepb.ScopeSpans{{Scope: scope(e.cfg.Version), Spans: e.batch}},
	}}})
	if err != nil {
		return fmt.Errorf("encode spans: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return errors.New("the collector's URL is none") // which may hold a secret
	}
	if e.cfg.Headers != nil {
		req.Header = e.cfg.Headers.Clone()
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	resp, err := e.web.Do(req)
	if err != nil {
		var of *url.Error
		if errors.As(err, &of) {
			err = of.Err // without the URL
		}
		return fmt.Errorf("ask %s: %w", req.URL.Host, err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, answerBytes) // a shorter one ends with an error
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s answers %s", req.URL.Host, resp.Status)
	}
	return nil
}
