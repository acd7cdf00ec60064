package admin

import (
	"net/http"
	"net/http/pprof"

	"github.com/go-chi/chi/v5"
)

// debug is where the profiles are.
const debug = "/debug/"

// profiles serves what `go tool pprof` asks for, behind the token.
func profiles(r chi.Router) {
	r.Get(debug+"pprof/*", pprof.Index) // and each by its name: heap, goroutine...
	for name, f := range map[string]http.HandlerFunc{
		"cmdline": pprof.Cmdline, "profile": pprof.Profile, "trace": pprof.Trace, "symbol": pprof.Symbol,
	} {
		r.Get(debug+"pprof/"+name, f)
	}
	r.Post(debug+"pprof/symbol", pprof.Symbol)
}
