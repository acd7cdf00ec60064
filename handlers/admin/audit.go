package admin

import (
	"log/slog"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5/middleware"
)

// operatorMost is how much of what an operator calls itself is logged.
const operatorMost = 100

// audit logs each change that was asked for with the token, and each profile:
// what, by whom as far as the request says, from where, and how it went.
func audit(log *slog.Logger) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			what := "admin change"
			switch reads := r.Method == http.MethodGet || r.Method == http.MethodHead; {
			case strings.HasPrefix(r.URL.Path, debug):
				what = "profile"
			case reads || !strings.HasPrefix(r.URL.Path, prefix):
				next.ServeHTTP(w, r)
				return
			}
			answer := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
			next.ServeHTTP(answer, r)
			who := r.Header.Get("X-Operator")
			log.Info(what, "method", r.Method, "path", r.URL.EscapedPath(), "status", answer.Status(),
				"operator", who[:min(len(who), operatorMost)], "from", r.RemoteAddr, "agent", r.UserAgent())
		})
	}
}
