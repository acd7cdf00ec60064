package admin

import (
	"io"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"godwit/server"
)

// probes serves /livez, /readyz and /startupz.
func probes(r chi.Router, state func() server.State) {
	r.Get("/livez", func(w http.ResponseWriter, _ *http.Request) { say(w, nil) })
	r.Get("/readyz", func(w http.ResponseWriter, _ *http.Request) { say(w, state().Unready()) })
	r.Get("/startupz", func(w http.ResponseWriter, _ *http.Request) {
		if !state().JoinedOnce {
			say(w, []string{"joining"})
			return
		}
		say(w, nil)
	})
}

// say answers 200, or 503 with the reasons.
func say(w http.ResponseWriter, why []string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	text := "ok\n"
	if len(why) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		text = strings.Join(why, "\n") + "\n"
	}
	_, _ = io.WriteString(w, text) // a prober that is gone needs no answer
}
