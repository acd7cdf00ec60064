package store

import (
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestURL_SaysWhereRedisIs(t *testing.T) {
	for _, c := range []struct {
		url  string
		want place
	}{
		{"redis+cluster://h1:1,h2:2", place{kind: cluster, addrs: []string{"h1:1", "h2:2"}}},
		{"redis+cluster://[::1]:1/0", place{kind: cluster, addrs: []string{"[::1]:1"}}},
		{"rediss+cluster://ann:p%40s%2Fs:w@h1:1/", place{kind: cluster, tls: true, addrs: []string{"h1:1"}, user: "ann", password: "p@s/s:w"}},
		{"redis+sentinel://h1:1,h2:2,h3:3/main", place{kind: sentinel, addrs: []string{"h1:1", "h2:2", "h3:3"}, master: "main"}},
		{"redis+sentinel://:secret@h1:1/main/7", place{kind: sentinel, addrs: []string{"h1:1"}, password: "secret", master: "main", db: 7}},
		{
			"rediss+sentinel://ann:pw@h1:1/ma%2Fin?sentinel_username=sam&sentinel_password=s%26w",
			place{
				kind: sentinel, tls: true, addrs: []string{"h1:1"}, user: "ann", password: "pw", master: "ma/in",
				sentinelUser: "sam", sentinelPassword: "s&w",
			},
		},
	} {
		got, err := parsePlace(c.url)
		if err != nil || !slices.Equal(got.addrs, c.want.addrs) {
			t.Errorf("%s: %+v, %v; want %+v", c.url, got, err, c.want)
		}
		got.addrs, c.want.addrs = nil, nil
		if g, w := got, c.want; g.kind != w.kind || g.user != w.user || g.password != w.password || g.tls != w.tls || g.master != w.master ||
			g.db != w.db || g.sentinelUser != w.sentinelUser || g.sentinelPassword != w.sentinelPassword {
			t.Errorf("%s: %+v, want %+v", c.url, got, c.want)
		}
		if tls := got.config() != nil; tls != c.want.tls {
			t.Errorf("%s: TLS %v", c.url, tls)
		}
	}
	for _, u := range []string{"redis://u:p@h:1/2", "rediss://h", "unix:///tmp/x"} {
		if got, err := parsePlace(u); err != nil || got.kind != single || got.one == nil {
			t.Errorf("%s: %+v, %v", u, got, err)
		}
	}
}

func TestURL_OneThatIsWrongSaysWhatIsExpectedAndNoSecret(t *testing.T) {
	for url, want := range map[string]string{
		"http://u:SECRET@h:1":                             "redis://",
		"redis://u:SECRET@h:x":                            "redis://",
		"sentinel://u:SECRET@h:1/m":                       "redis+sentinel://",
		"redis+sentinel://u:SECRET@h:1":                   "/MASTER",
		"redis+sentinel://u:SECRET@h:1/":                  "/MASTER",
		"redis+sentinel://u:SECRET@h:1/m/x":               "number",
		"redis+sentinel://u:SECRET@h:1/m/1/2":             "/MASTER",
		"redis+sentinel://u:SECRET@h/m":                   "host:port",
		"redis+sentinel://u:SECRET@h:1/m?x=SECRET":        "sentinel_username",
		"redis+cluster://u:SECRET@h:1,":                   "host:port",
		"redis+cluster://u:SECRET@h:0":                    "host:port",
		"redis+cluster://u:SECRET@h:1/1":                  "database 0",
		"redis+cluster://u:SECRET@h:1?db=SECRET":          "no option",
		"redis+cluster://u:SECRET%zz@h:1":                 "%XX",
		"redis+cluster://u:SEC/RET@h:1":                   "%2F",
		"redis+cluster://":                                "host:port",
		"redis+cluster://u:SECRET@h:1?sentinel_password=": "no option",
	} {
		_, err := parsePlace(url)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "SEC") {
			t.Errorf("%s: %v, want something about %q and no secret", url, err, want)
		}
	}
}

func FuzzURL(f *testing.F) {
	f.Add("redis+sentinel://a:b@h:1,h:2/m/1?sentinel_password=x")
	f.Add("redis+cluster://h:1")
	f.Fuzz(func(t *testing.T, url string) {
		p, err := parsePlace(url)
		if err == nil && p.kind != single && (len(p.addrs) == 0 || p.kind == sentinel && p.master == "") {
			t.Errorf("%q gives %+v", url, p)
		}
	})
}

// The specification's own examples, and a tag as our keys have it.
func TestSlot_IsTheOneThatAClusterFinds(t *testing.T) {
	for key, want := range map[string]int{
		"123456789": 0x31C3, "": 0, "foo": 12182, "bar": 5061,
		"{user1000}.following": slotOf("user1000"), "foo{}{bar}": 8363,
		"foo{{bar}}zap": slotOf("{bar"), "foo{bar}{zap}": slotOf("bar"), "{": slotOf("{"),
	} {
		if got := slotOf(key); got != want {
			t.Errorf("%q: slot %d, want %d", key, got, want)
		}
	}
	for i, tag := range pieceTags {
		if slot := slotOf(pieceKey(tag)); slot*pieces/slots != i {
			t.Errorf("the marker of piece %d is in slot %d", i, slot)
		}
	}
}

func TestKey_IsWhatACommandIsRoutedBy(t *testing.T) {
	ctx := t.Context()
	for _, c := range []struct {
		cmd  redis.Cmder
		want string
	}{
		{redis.NewCmd(ctx, "get", "k"), "k"},
		{redis.NewCmd(ctx, "publish", "ch", "k"), "ch"},
		{joinCall.command(ctx, "evalsha", "sha"), "k1"},
		{redis.NewCmd(ctx, "eval", "return 1", 0), ""},
		{redis.NewCmd(ctx, "ping"), ""},
	} {
		if got := keyOf(c.cmd); got != c.want {
			t.Errorf("%v is routed by %q, want %q", c.cmd.Args(), got, c.want)
		}
	}
}

var joinCall = call{joinScript, []string{"k1", "k2"}, []any{"a"}}
