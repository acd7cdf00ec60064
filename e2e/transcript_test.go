package e2e

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"godwit/e2e/fleet"
	"godwit/e2e/raw"
)

// A transcript is what goes over the wires of some clients, line by line, with
// a node of its own and the settings in front:
//
//	env GODWIT_MAX_ROOMS=2
//	== a title: a new test, new clients
//	ann dials [!503] [Header: value]   a websocket, nothing said; refused with 503
//	ann enters [params]                the same, and hello as user ann; further members of its params;
//	                                   invisible, unless they say otherwise, so that nobody is told
//	ann joins lobby                    room.join, answered
//	ann> TEXT                          one text frame
//	ann>text HEX, ann>binary HEX
//	ann< PATTERN                       the next frame, JSON
//	ann<? PATTERN                      the next frame, or else the one behind it: they come in either order
//	ann<~ TEXT                         the next frame holds this text
//	ann< close 4400                    the end
//	ann drops                          no word
//
// A pattern's objects name the members that matter, its arrays are whole. "*"
// is any value, "!" none, "$x" binds x or compares with it; $x in a line that
// is sent is its text. << >> is a template: token, repeat, nest.
type transcript struct {
	t      *testing.T
	node   *fleet.Node
	people map[string]*raw.Conn
	vars   map[string]string
	kept   map[*raw.Conn]string // the frame that another one was taken before
	id     int
}

func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parts := strings.Split("\n"+string(src), "\n== ")
			env := map[string]string{}
			for line := range strings.Lines(parts[0]) {
				if pair, ok := strings.CutPrefix(strings.TrimSpace(line), "env "); ok {
					k, v, _ := strings.Cut(pair, "=")
					env[k] = v
				}
			}
			f := fleet.Start(t, fleet.Options{Nodes: 1, Env: env})
			at := 1 + strings.Count(parts[0], "\n")
			for _, part := range parts[1:] {
				title, body, _ := strings.Cut(part, "\n")
				first := at + 1
				at += strings.Count(part, "\n") + 1
				t.Run(title, func(t *testing.T) {
					tr := &transcript{t: t, node: f.Nodes[0], people: map[string]*raw.Conn{}, vars: map[string]string{}, kept: map[*raw.Conn]string{}}
					for i, line := range strings.Split(body, "\n") {
						if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
							continue
						}
						if err := tr.line(line); err != nil {
							t.Fatalf("%s:%d: %s\n%v", file, first+i, clip(line), err)
						}
					}
				})
			}
		})
	}
}

func clip(s string) string { return s[:min(len(s), 300)] }

var (
	spoken = regexp.MustCompile(`^([a-z]+)(>text|>binary|>|<~|<[?]|<) (.*)$`)
	named  = regexp.MustCompile(`\$[a-z][a-z0-9_.]*`)
)

func (tr *transcript) line(line string) error {
	line, err := tr.expand(line)
	if err != nil {
		return err
	}
	if m := spoken.FindStringSubmatch(line); m != nil {
		c := tr.people[m[1]]
		if c == nil {
			return fmt.Errorf("%s has not dialled", m[1])
		}
		return tr.speak(c, m[2], m[3])
	}
	who, does, _ := strings.Cut(line, " ")
	verb, rest, _ := strings.Cut(does, " ")
	switch verb {
	case "dials":
		return tr.dial(who, rest)
	case "enters":
		return tr.enter(who, rest)
	case "joins":
		tr.id++
		id := strconv.Itoa(9000 + tr.id)
		c := tr.people[who]
		if err := c.Text(`{"jsonrpc":"2.0","id":` + id + `,"method":"room.join","params":{"room":"` + rest + `"}}`); err != nil {
			return err
		}
		return tr.speak(c, "<", `{"id":`+id+`,"result":{"room":"`+rest+`"}}`)
	case "drops":
		tr.people[who].Drop()
		return nil
	}
	return fmt.Errorf("no such line")
}

func (tr *transcript) dial(who, how string) error {
	status := ""
	if rest, ok := strings.CutPrefix(how, "!"); ok {
		status, how, _ = strings.Cut(rest, " ")
	}
	h := http.Header{}
	if k, v, ok := strings.Cut(how, ": "); ok {
		h.Set(k, v)
	}
	c, err := raw.Dial(tr.node.URL, h)
	var refused *raw.Refused
	switch {
	case status == "" && err != nil:
		return err
	case status != "" && err == nil:
		c.Drop()
		return errors.New("the node let it in")
	case status != "" && (!errors.As(err, &refused) || strconv.Itoa(refused.Status) != status):
		return err
	case status != "":
		return nil
	}
	tr.t.Cleanup(c.Drop)
	tr.people[who] = c
	return nil
}

func (tr *transcript) enter(who, more string) error {
	if err := tr.dial(who, ""); err != nil {
		return err
	}
	if more != "" {
		more = "," + more
	}
	if !strings.Contains(more, `"presence"`) {
		more += `,"presence":0`
	}
	if !strings.Contains(more, `"token"`) {
		more = `,"token":"` + fleet.Token(who, time.Hour) + `"` + more
	}
	if err := tr.people[who].Text(`{"jsonrpc":"2.0","id":0,"method":"hello","params":{` + more[1:] + `}}`); err != nil {
		return err
	}
	return tr.speak(tr.people[who], "<", fmt.Sprintf(`{"id":0,"result":{"session":"$%s.session","secret":"$%[1]s.secret","client":"$%[1]s.client"}}`, who))
}

func (tr *transcript) speak(c *raw.Conn, how, what string) error {
	switch how {
	case ">":
		return c.Text(named.ReplaceAllStringFunc(what, func(name string) string {
			if v, ok := tr.vars[name]; ok {
				return v
			}
			return name
		}))
	case ">text", ">binary":
		b, err := hex.DecodeString(what)
		if err != nil {
			return err
		}
		return c.Frame(map[string]byte{">text": 1, ">binary": 2}[how], b)
	}
	ctx, cancel := context.WithTimeout(tr.t.Context(), fleet.Patience)
	defer cancel()
	if code, ok := strings.CutPrefix(what, "close "); ok && how == "<" {
		end, err := c.End(ctx)
		if err != nil {
			return err
		}
		if text := tr.kept[c] + c.Rest(); text != "" {
			return fmt.Errorf("before the close came %s", text)
		}
		if end.Code.String() != code {
			return fmt.Errorf("%v", end)
		}
		return nil
	}
	text := tr.kept[c]
	delete(tr.kept, c)
	if text == "" {
		var err error
		if text, err = c.NextText(ctx); err != nil {
			return err
		}
	}
	if how == "<~" {
		if !strings.Contains(text, what) {
			return fmt.Errorf("got %s", text)
		}
		return nil
	}
	bad := tr.is(what, text)
	if bad == nil || how != "<?" {
		return bad
	}
	tr.kept[c] = text
	text, err := c.NextText(ctx)
	if err != nil {
		return errors.Join(bad, err)
	}
	return tr.is(what, text)
}

// is holds a frame against a pattern.
func (tr *transcript) is(pattern, text string) error {
	var want, got any
	if err := parse(pattern, &want); err != nil {
		return fmt.Errorf("the pattern: %w", err)
	}
	if err := parse(text, &got); err != nil {
		return err
	}
	if why := tr.match("", want, got); why != "" {
		return fmt.Errorf("%s\nin %s", why, text)
	}
	return nil
}

func parse(text string, into any) error {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	return d.Decode(into)
}

// match says how got is not what is wanted, or "".
func (tr *transcript) match(path string, want, got any) string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s is %v, want an object", path, got)
		}
		for k, v := range w {
			there, ok := g[k]
			if v == "!" {
				if ok {
					return fmt.Sprintf("%s.%s is there: %v", path, k, there)
				}
				continue
			}
			if !ok {
				return fmt.Sprintf("%s.%s is missing", path, k)
			}
			if why := tr.match(path+"."+k, v, there); why != "" {
				return why
			}
		}
		return ""
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return fmt.Sprintf("%s is %v, want %d elements", path, got, len(w))
		}
		for i := range w {
			if why := tr.match(fmt.Sprintf("%s[%d]", path, i), w[i], g[i]); why != "" {
				return why
			}
		}
		return ""
	case string:
		if w == "*" {
			return ""
		}
		if named.MatchString(w) && named.FindString(w) == w {
			text := fmt.Sprint(got)
			if v, ok := tr.vars[w]; ok && v != text {
				return fmt.Sprintf("%s is %s, want %s = %s", path, text, w, v)
			}
			tr.vars[w] = text
			return ""
		}
	}
	if want != got {
		return fmt.Sprintf("%s is %v, want %v", path, got, want)
	}
	return ""
}

// expand runs the line's templates.
func (tr *transcript) expand(line string) (string, error) {
	t, err := template.New("").Delims("<<", ">>").Funcs(template.FuncMap{
		"token":  token,
		"repeat": func(s string, n int) string { return strings.Repeat(s, n) },
		"nest":   func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) },
		"list":   func(n int, s string) string { return strings.Repeat(s+",", n-1) + s },
	}).Parse(line)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	err = t.Execute(&b, nil)
	return b.String(), err
}

// token is a JWT of the user: claims as name=value, a time from now for exp
// and nbf; key= and alg= to sign it wrongly; no-exp to leave that out.
func token(user string, claims ...string) (string, error) {
	now := time.Now()
	c := jwt.MapClaims{"sub": user, "exp": now.Add(time.Hour).Unix()}
	var method jwt.SigningMethod = jwt.SigningMethodHS256
	var key any = []byte(fleet.Secret)
	for _, claim := range claims {
		k, v, _ := strings.Cut(claim, "=")
		switch k {
		case "exp", "nbf":
			d, err := time.ParseDuration(v)
			if err != nil {
				return "", err
			}
			c[k] = now.Add(d).Unix()
		case "rooms":
			c[k] = strings.Split(v, ",")
		case "no-exp":
			delete(c, "exp")
		case "no-sub":
			delete(c, "sub")
		case "key":
			key = []byte(v)
		case "alg":
			method = jwt.GetSigningMethod(v)
			if v == "none" {
				key = jwt.UnsafeAllowNoneSignatureType
			}
		default:
			c[k] = v
		}
	}
	return jwt.NewWithClaims(method, c).SignedString(key)
}
