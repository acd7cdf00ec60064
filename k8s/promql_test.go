package k8s

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// query is what an expression of PromQL asks for.
type query struct {
	series []selector
	labels []string // that it groups or matches by
}

// selector is one metric of it.
type selector struct {
	name     string
	matchers []matcher
}

type matcher struct{ label, op, value string }

// parseQuery reads the part of PromQL that our alerts and dashboard are written
// in, and refuses the rest. Prometheus's own parser would bring all of its
// module along.
func parseQuery(text string) (q query, err error) {
	p := &promql{}
	defer func() {
		if v := recover(); v != nil {
			wrong, ok := v.(promqlError)
			if !ok {
				panic(v)
			}
			err = fmt.Errorf("%s: %s", text, string(wrong))
		}
	}()
	p.scan(text)
	if p.expression() == ranged {
		p.fail("a range stands by itself")
	}
	if p.peek() != "" {
		p.fail("expected the end, not %q", p.peek())
	}
	return p.query, nil
}

type promqlError string

type promql struct {
	tokens []string
	query
}

// result is what a part of an expression is.
type result int

const (
	plain  result = iota
	ranged        // a selector with [5m]
)

var token = regexp.MustCompile(`^(?:\s+|(\d+(?:ms|[smhdwy])|\d+(?:\.\d+)?(?:e-?\d+)?|[a-zA-Z_:][a-zA-Z0-9_:]*|"(?:[^"\\]|\\.)*"|=~|!~|!=|==|>=|<=|[-+*/%^(){}\[\],=<>]))`)

func (p *promql) fail(format string, args ...any) { panic(promqlError(fmt.Sprintf(format, args...))) }

func (p *promql) scan(text string) {
	for text != "" {
		m := token.FindStringSubmatch(text)
		if m == nil {
			p.fail("cannot read on at %q", text)
		}
		if m[1] != "" {
			p.tokens = append(p.tokens, m[1])
		}
		text = text[len(m[0]):]
	}
}

func (p *promql) peek() string {
	if len(p.tokens) == 0 {
		return ""
	}
	return p.tokens[0]
}

func (p *promql) next() string {
	t := p.peek()
	p.tokens = p.tokens[min(1, len(p.tokens)):]
	return t
}

func (p *promql) take(t string) bool {
	if p.peek() == t {
		p.next()
		return true
	}
	return false
}

func (p *promql) want(t string) {
	if got := p.next(); got != t {
		p.fail("expected %q, got %q", t, got)
	}
}

// levels are the binary operators, the loosest first.
var levels = [][]string{{"or"}, {"and", "unless"}, {"==", "!=", "<=", "<", ">=", ">"}, {"+", "-"}, {"*", "/", "%"}, {"^"}}

func (p *promql) expression() result { return p.binary(0) }

func (p *promql) binary(level int) result {
	if level == len(levels) {
		p.take("-")
		return p.primary()
	}
	kind := p.binary(level + 1)
	for slices.Contains(levels[level], p.peek()) {
		p.next()
		if level == 2 {
			p.take("bool")
		}
		if p.peek() == "on" || p.peek() == "ignoring" {
			p.next()
			p.names()
			if p.peek() == "group_left" || p.peek() == "group_right" {
				p.next()
				if p.peek() == "(" {
					p.names()
				}
			}
		}
		if kind == ranged || p.binary(level+1) == ranged {
			p.fail("a range is not calculated with")
		}
	}
	return kind
}

// names is a list of labels.
func (p *promql) names() {
	p.want("(")
	for !p.take(")") {
		p.labels = append(p.labels, p.name())
		if !p.take(",") && p.peek() != ")" {
			p.fail("expected , or ) and not %q", p.peek())
		}
	}
}

func (p *promql) name() string {
	t := p.next()
	if t == "" || !regexp.MustCompile(`^[a-zA-Z_]`).MatchString(t) {
		p.fail("expected a name, got %q", t)
	}
	return t
}

var aggregations = []string{"sum", "max", "min", "avg", "count", "topk"}

// functions are those that we use, and whether their last argument is a range.
var functions = map[string]bool{"rate": true, "increase": true, "changes": true, "histogram_quantile": false, "absent": false}

func (p *promql) primary() result {
	t := p.next()
	switch {
	case t == "(":
		kind := p.expression()
		p.want(")")
		return kind
	case t != "" && t[0] >= '0' && t[0] <= '9' && !strings.ContainsAny(t, "smhdwy"):
		return plain
	case slices.Contains(aggregations, t):
		grouped := p.by()
		if p.arguments() == ranged {
			p.fail("%s of a range", t)
		}
		if !grouped {
			p.by()
		}
		return plain
	case p.peek() == "(":
		over, known := functions[t]
		if !known {
			p.fail("a function %s is not known", t)
		}
		if (p.arguments() == ranged) != over {
			p.fail("%s: a range where none belongs, or the other way round", t)
		}
		return plain
	case t == "" || !regexp.MustCompile(`^[a-zA-Z_:]`).MatchString(t):
		p.fail("expected a metric, got %q", t)
	}
	return p.selector(t)
}

// by is by (...) or without (...), if it stands here.
func (p *promql) by() bool {
	if p.peek() != "by" && p.peek() != "without" {
		return false
	}
	p.next()
	p.names()
	return true
}

// arguments are those of a call; it says what the last one is.
func (p *promql) arguments() (last result) {
	p.want("(")
	for {
		last = p.expression()
		if !p.take(",") {
			break
		}
	}
	p.want(")")
	return last
}

func (p *promql) selector(name string) result {
	s := selector{name: name}
	if p.take("{") {
		for !p.take("}") {
			m := matcher{label: p.name(), op: p.next()}
			if !slices.Contains([]string{"=", "!=", "=~", "!~"}, m.op) {
				p.fail("expected a matcher, got %q", m.op)
			}
			if m.value = p.next(); !strings.HasPrefix(m.value, `"`) {
				p.fail("expected a value, got %q", m.value)
			}
			m.value = strings.Trim(m.value, `"`)
			s.matchers = append(s.matchers, m)
			if !p.take(",") && p.peek() != "}" {
				p.fail("expected , or } and not %q", p.peek())
			}
		}
	}
	p.series = append(p.series, s)
	if !p.take("[") {
		return plain
	}
	if d := p.next(); !regexp.MustCompile(`^\d+(ms|[smhdwy])$`).MatchString(d) {
		p.fail("expected a duration, got %q", d)
	}
	p.want("]")
	return ranged
}

func TestParseQuery_KnowsWhatIsPromQL(t *testing.T) {
	q, err := parseQuery(`histogram_quantile(0.99, sum by (le, x) (rate(a_bucket{b="c",d=~"e|f"}[5m]))) > 2 * g and on (h) -i == 1`)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(q.series, q.labels); got != `[{a_bucket [{b = c} {d =~ e|f}]} {g []} {i []}] [le x h]` {
		t.Errorf("read as %s", got)
	}
	for _, bad := range []string{
		"", "a b", "sum(a", "sum by a (b)", "rate(a)", "rate(a[5])", "a[5m]", "a{b}", `a{b="c" d="e"}`, "sum(a[5m])", "a >", "nosuch(a)",
		"a and", `a{b=c}`, "a + b[5m]", "a ! b", "absent(a[5m])", "rate(a[5m]) by", "a, b", "histogram_quantile(0.9, a[5m])",
	} {
		if q, err := parseQuery(bad); err == nil {
			t.Errorf("%q is read as %v", bad, q)
		}
	}
}
