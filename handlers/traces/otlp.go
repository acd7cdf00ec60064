package traces

import (
	"maps"
	"slices"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"godwit/trace"
)

// kinds are the roles, as OpenTelemetry has them.
var kinds = map[trace.Role]tracepb.Span_SpanKind{
	trace.Server:   tracepb.Span_SPAN_KIND_SERVER,
	trace.Producer: tracepb.Span_SPAN_KIND_PRODUCER,
	trace.Consumer: tracepb.Span_SPAN_KIND_CONSUMER,
}

// sampled is the flag of a W3C trace that is followed.
const sampled = 1

// span is a span as OpenTelemetry has it.
func span(s *trace.Span) *tracepb.Span {
	out := &tracepb.Span{
		TraceId: s.ID.Trace[:], SpanId: s.ID.Span[:], Name: s.Name, Kind: kinds[s.Role], Flags: sampled,
		StartTimeUnixNano: uint64(s.Began.UnixNano()), EndTimeUnixNano: uint64(s.Ended.UnixNano()),
	}
	if s.Parent != [8]byte{} {
		out.ParentSpanId = s.Parent[:]
	}
	for _, a := range s.Attrs {
		out.Attributes = append(out.Attributes, attribute(a.Key, a.Value))
	}
	for _, e := range s.Events {
		out.Events = append(out.Events, &tracepb.Span_Event{Name: e.Name, TimeUnixNano: uint64(e.At.UnixNano())})
	}
	if s.Failed {
		out.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR}
	}
	return out
}

func attribute(key string, value any) *commonpb.KeyValue {
	kv := &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{}}
	switch v := value.(type) {
	case string:
		kv.Value.Value = &commonpb.AnyValue_StringValue{StringValue: v}
	case int64:
		kv.Value.Value = &commonpb.AnyValue_IntValue{IntValue: v}
	case bool:
		kv.Value.Value = &commonpb.AnyValue_BoolValue{BoolValue: v}
	}
	return kv
}

func resource(attrs map[string]string) *resourcepb.Resource {
	r := &resourcepb.Resource{}
	for _, key := range slices.Sorted(maps.Keys(attrs)) {
		r.Attributes = append(r.Attributes, attribute(key, attrs[key]))
	}
	return r
}

func scope(version string) *commonpb.InstrumentationScope {
	return &commonpb.InstrumentationScope{Name: "godwit", Version: version}
}
