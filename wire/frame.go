package wire

import (
	"bytes"
	"errors"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Limits of one frame, fixed by the protocol.
const (
	MaxBatch = 32 // members of one batch
	MaxDepth = 64 // levels of nesting, the frame's own included
)

// Request is one member of a frame. Err is set when the member is no valid
// request; the other fields are then only good for the answer's id.
type Request struct {
	// ID is the raw id, nil for a JSON-RPC notification, which gets no answer.
	ID     jsontext.Value
	Method string
	// Params is the raw params object, nil when absent.
	Params jsontext.Value
	Err    *Error
}

// Frame is one decoded text frame.
type Frame struct {
	Batch    bool
	Requests []Request
}

var null = jsontext.Value("null")

// ParseFrame decodes one text frame of a client. A non-nil error answers the
// whole frame, with id null; nothing of the frame runs. The frame's bytes are
// kept by the requests: do not reuse them.
func ParseFrame(b []byte) (Frame, *Error) {
	if err := checkText(b); err != nil {
		return Frame{}, err
	}
	v := jsontext.Value(bytes.TrimLeft(b, " \t\r\n"))
	if v.Kind() != '[' {
		return Frame{Requests: []Request{parseRequest(v)}}, nil
	}
	var members []jsontext.Value
	if err := json.Unmarshal(v, &members); err != nil {
		return Frame{}, &Error{Code: CodeParse, Message: "parse error: the frame is no JSON"}
	}
	if len(members) == 0 {
		return Frame{}, ErrRequest("the batch is empty")
	}
	if len(members) > MaxBatch {
		return Frame{}, ErrRequest("the batch has %d members, at most %d are allowed", len(members), MaxBatch)
	}
	f := Frame{Batch: true, Requests: make([]Request, len(members))}
	for i, m := range members {
		f.Requests[i] = parseRequest(m)
	}
	return f, nil
}

// checkText refuses bad syntax, duplicate keys anywhere and deep nesting.
func checkText(b []byte) *Error {
	brackets := bytes.Count(b, []byte("{")) + bytes.Count(b, []byte("["))
	if brackets > MaxDepth && depth(b) > MaxDepth {
		return &Error{Code: CodeParse, Message: "parse error: more than 64 levels of nesting"}
	}
	if !jsontext.Value(b).IsValid() {
		return &Error{Code: CodeParse, Message: "parse error: the frame is no JSON, or an object has a key twice"}
	}
	return nil
}

// depth is the deepest nesting of objects and arrays in b, valid JSON or not.
func depth(b []byte) int {
	level, deepest := 0, 0
	inString := false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			level++
			deepest = max(deepest, level)
		case c == '}' || c == ']':
			level--
		}
	}
	return deepest
}

// parseRequest takes a value that is known to be valid.
func parseRequest(v jsontext.Value) Request {
	bad := func(id jsontext.Value, format string, args ...any) Request {
		if id == nil {
			id = null
		}
		return Request{ID: id, Err: ErrRequest(format, args...)}
	}
	if v.Kind() != '{' {
		return bad(nil, "a request is an object")
	}
	// Raw, so that a member of the wrong type is told from a missing one.
	var version, method jsontext.Value
	var r Request
	members(v, func(name []byte, value jsontext.Value) {
		switch string(name) {
		case "jsonrpc":
			version = value
		case "id":
			r.ID = value
		case "method":
			method = value
		case "params":
			r.Params = value
		}
	})
	switch r.ID.Kind() {
	case 0, 'n', '"', '0': // absent, null, string, number
	default:
		return bad(nil, "id is a string, a number or null")
	}
	if string(version) != `"2.0"` {
		return bad(r.ID, `jsonrpc is "2.0"`)
	}
	if method.Kind() != '"' {
		return bad(r.ID, "method is a string")
	}
	r.Method = string(plain(method))
	switch r.Params.Kind() {
	case 0, '{':
	case 'n':
		r.Params = nil
	default:
		r.Params, r.Err = nil, ErrParams("params is an object")
	}
	return r
}

// Decode reads params of a frame into v, a pointer to one of this package's
// parameter types, that is zero. Absent params read as an empty object; unknown
// members are ignored.
func Decode(params jsontext.Value, v any) *Error {
	if len(params) == 0 {
		return nil
	}
	if s, ok := v.(*Send); ok && s.read(params) {
		return nil
	}
	if err := json.Unmarshal(params, v); err != nil {
		return ErrParams("%s", describe(err))
	}
	return nil
}

// describe names the member that has the wrong type, without its value.
func describe(err error) string {
	var se *json.SemanticError
	if errors.As(err, &se) && se.JSONPointer != "" {
		return "wrong type or range at " + clip(string(se.JSONPointer))
	}
	return "wrong type"
}

// appender is a result that writes itself, because it holds data that must
// pass byte for byte, which json.Marshal does not promise.
type appender interface{ AppendJSON([]byte) []byte }

// AppendResult appends the answer that carries a result.
func AppendResult(b []byte, id jsontext.Value, result any) ([]byte, error) {
	b = slices.Grow(b, 112+len(id)) // that of a send
	b = append(b, `{"jsonrpc":"2.0","id":`...)
	b = append(b, id...)
	b = append(b, `,"result":`...)
	if a, ok := result.(appender); ok {
		return append(a.AppendJSON(b), '}'), nil
	}
	raw, err := json.Marshal(result)
	if err != nil {
		return nil, err
	}
	return append(append(b, raw...), '}'), nil
}

// AppendError appends the answer that carries an error; a nil id is null.
func AppendError(b []byte, id jsontext.Value, e *Error) []byte {
	if len(id) == 0 {
		id = null
	}
	b = append(b, `{"jsonrpc":"2.0","id":`...)
	b = append(b, id...)
	b = append(b, `,"error":`...)
	raw, err := json.Marshal(e)
	if err != nil { // an Error is made of strings and numbers
		raw = []byte(`{"code":-32603,"message":"internal error"}`)
	}
	return append(append(b, raw...), '}')
}

// AppendNotice appends a notification.
func AppendNotice(b []byte, method string, params any) ([]byte, error) {
	b = append(b, `{"jsonrpc":"2.0","method":"`...)
	b = append(b, method...)
	b = append(b, `","params":`...)
	raw, err := json.Marshal(params)
	if err != nil {
		return nil, err
	}
	return append(append(b, raw...), '}'), nil
}
